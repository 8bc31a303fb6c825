"""A broker that does not take a message is asked again, as the policy says, and then the sender is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from djqueue.conf import settings
from djqueue.core.messages import Outgoing
from djqueue.exceptions import OperationalError
from djqueue.messaging import brokers
from djqueue.messaging.transports.memory import MemoryBroker
from tests.project import tasks

QUICK = {"interval_start": 0, "interval_step": 0}


class ShyBroker(MemoryBroker):
    """Refuses the first messages: what no real broker does on command. Delivers the others."""

    refusals = 0
    asked = 0

    def send_many(self, outgoing: Sequence[Outgoing]) -> None:
        type(self).asked += 1
        if type(self).asked <= type(self).refusals:
            raise OperationalError("not now")
        super().send_many(outgoing)


@pytest.fixture
def shy(monkeypatch: pytest.MonkeyPatch) -> Any:
    path = f"{__name__}.{ShyBroker.__name__}"
    monkeypatch.setitem(brokers.SCHEMES, "memory", path)
    ShyBroker.asked = 0
    with settings.override(
        BROKER_URL="memory://", TASK_PUBLISH_RETRY_POLICY=QUICK, RESULT_BACKEND="disabled"
    ):
        yield ShyBroker


def test_sending_is_tried_again_three_times(shy: Any) -> None:
    shy.refusals = 3
    tasks.add.delay(1, 2)
    assert shy.asked == 4


def test_then_the_sender_is_told(shy: Any) -> None:
    shy.refusals = 4
    with pytest.raises(OperationalError, match="not now"):
        tasks.add.delay(1, 2)


def test_a_call_may_do_without(shy: Any) -> None:
    shy.refusals = 1
    with pytest.raises(OperationalError):
        tasks.add.apply_async((1, 2), retry=False)
    assert shy.asked == 1
