"""How often sending is tried again: kombu's names and sums, and mistakes told."""

from __future__ import annotations

from itertools import islice

import pytest

from djqueue.conf import settings
from djqueue.core.calls import Plan, asked
from djqueue.core.retrying import ONCE, PublishPolicy


def test_the_pauses_grow_by_a_step_up_to_the_longest() -> None:
    policy = PublishPolicy(max_retries=None, interval_start=0.5, interval_step=0.5, interval_max=1.2)
    assert list(islice(policy.pauses(), 4)) == [0.5, 1.0, 1.2, 1.2]
    assert list(PublishPolicy().pauses()) == pytest.approx([0.0, 0.2, 0.4])
    assert list(ONCE.pauses()) == []


def test_a_call_may_change_the_policy_of_the_settings_or_do_without() -> None:
    plan = Plan.for_name("add")
    with settings.override(TASK_PUBLISH_RETRY_POLICY={"max_retries": 7}):
        call = asked(plan, (), {}, {"retry_policy": {"interval_start": 2}})
        assert call.publish_policy == PublishPolicy(max_retries=7, interval_start=2)
        assert asked(plan, (), {}, {"retry": False}).publish_policy == ONCE
    with settings.override(TASK_PUBLISH_RETRY=False):
        assert asked(plan, (), {}, {}).publish_policy == ONCE


def test_a_mistake_in_a_policy_is_told() -> None:
    with pytest.raises(ValueError, match="did you mean 'max_retries'"):
        asked(Plan.for_name("add"), (), {}, {"retry_policy": {"max_retrys": 3}})
    with pytest.raises(ValueError, match="interval_step, not 'soon'"):
        asked(Plan.for_name("add"), (), {}, {"retry_policy": {"interval_step": "soon"}})
