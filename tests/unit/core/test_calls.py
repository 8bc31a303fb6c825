"""The options of a call become a `Call`; what does not exist or fit is refused at once."""

from __future__ import annotations

import time
from dataclasses import FrozenInstanceError
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from kombu.entity import Queue

from djqueue.conf import settings
from djqueue.core.calls import Plan, asked
from djqueue.core.requests import Request, running

PLAN = Plan("t.add")


def test_a_call_without_options_has_only_a_new_id() -> None:
    first, second = asked(PLAN, None, None, {}), asked(PLAN, [1], {"a": 1}, {})
    assert (first.args, first.kwargs) == ((), {})
    assert (second.args, second.kwargs) == ([1], {"a": 1})
    assert UUID(first.id).version == 4
    assert first.id != second.id
    assert first.due is None


def test_a_plan_is_not_changed_by_calls() -> None:
    with pytest.raises(FrozenInstanceError):
        PLAN.name = "other"  # type: ignore[misc]
    assert Plan.for_name("t").ignore_result is None


@pytest.mark.parametrize("args", ["ab", {"a": 1}, 5, iter([1])], ids=str)
def test_args_must_be_a_list_or_tuple(args: Any) -> None:
    with pytest.raises(TypeError, match=r"args of t\.add must be a list or tuple"):
        asked(PLAN, args, {}, {})


def test_kwargs_must_be_a_mapping() -> None:
    with pytest.raises(TypeError, match=r"kwargs of t\.add must be a mapping"):
        asked(PLAN, (), [("a", 1)], {})
    with pytest.raises(TypeError, match="must be text; one is 5"):
        asked(PLAN, (), {5: 1}, {})


def test_options_get_their_names_in_the_call() -> None:
    call = asked(
        PLAN, (), {}, {"task_id": "x", "group_id": "g", "link": 1, "link_error": (2, 3), "queue": "q"}
    )
    assert (call.id, call.group, call.callbacks, call.errbacks, call.queue) == ("x", "g", [1], [2, 3], "q")


def test_a_queue_may_be_kombus() -> None:
    assert asked(PLAN, (), {}, {"queue": Queue("emails")}).queue.name == "emails"
    with pytest.raises(TypeError, match="queue must be a name, or kombu's Queue; it is 5"):
        asked(PLAN, (), {}, {"queue": 5})


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"countdwn": 5}, "'countdwn' is not an option of a call. Did you mean 'countdown'?"),
        ({"taskid": 5}, "Did you mean 'task_id'?"),
        ({"zzz": 5}, "A stamp must be listed in stamped_headers."),
    ],
    ids=str,
)
def test_an_option_that_does_not_exist_is_refused_with_a_guess(option: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError) as raised:
        asked(PLAN, (), {}, option)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ({"countdown": "5"}, TypeError),
        ({"countdown": True}, TypeError),
        ({"countdown": 1e20}, ValueError),
        ({"countdown": float("nan")}, ValueError),
        ({"eta": 5}, TypeError),
        ({"eta": date(2030, 1, 1)}, TypeError),
        ({"eta": "tomorrow"}, ValueError),
        ({"expires": "tomorrow"}, ValueError),
        ({"expires": float("inf")}, ValueError),
        ({"expires": [1]}, TypeError),
        ({"priority": "high"}, ValueError),
        ({"priority": 256}, ValueError),
        ({"priority": True}, ValueError),
        ({"task_id": 5}, ValueError),
        ({"task_id": "x" * 256}, ValueError),
        ({"task_id": "a\0"}, ValueError),
        ({"headers": ["x"]}, TypeError),
        ({"headers": {"id": "x"}}, ValueError),
        ({"headers": {"compression": "x"}}, ValueError),
        ({"properties": {"expiration": "60000"}}, ValueError),
    ],
    ids=str,
)
def test_an_impossible_value_is_refused_at_the_call(option: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error) as raised:
        asked(PLAN, (), {}, option)
    assert next(iter(option)).removesuffix("s") in str(raised.value)


def test_a_countdown_is_a_moment_from_now() -> None:
    for countdown in (60, 60.0, timedelta(minutes=1)):
        call = asked(PLAN, (), {}, {"countdown": countdown})
        assert call.due == pytest.approx(time.time() + 60, abs=5)
        assert call.eta is not None
        assert call.eta.endswith("+00:00")
    assert asked(PLAN, (), {}, {"countdown": 0}).eta is None


def test_a_countdown_of_decades_is_possible() -> None:
    due = asked(PLAN, (), {}, {"countdown": 2**31 + 5}).due
    assert due == pytest.approx(time.time() + 2**31 + 5, abs=5)


def test_an_eta_without_an_offset_stays_as_it_is_and_means_utc() -> None:
    call = asked(PLAN, (), {}, {"eta": datetime(2030, 1, 1)})
    assert call.eta == "2030-01-01T00:00:00"
    assert call.due == datetime(2030, 1, 1, tzinfo=UTC).timestamp()


def test_the_plans_expiry_holds_unless_the_call_has_its_own() -> None:
    plan = Plan("t", expires=60)
    assert asked(plan, (), {}, {}).expires is not None
    assert asked(plan, (), {}, {"expires": None}).expires is None
    assert asked(plan, (), {}, {"expires": "2030-01-01"}).expires == "2030-01-01"
    assert asked(Plan("t", expires=datetime(2030, 1, 1)), (), {}, {}).expires == "2030-01-01T00:00:00"


def test_time_limits_of_the_call_replace_those_of_the_plan_one_by_one() -> None:
    plan = Plan("t", time_limit=30, soft_time_limit=20)
    assert asked(plan, (), {}, {}).timelimit is None
    assert asked(plan, (), {}, {"time_limit": 60}).timelimit == (60, 20)
    assert asked(plan, (), {}, {"time_limit": None, "soft_time_limit": None}).timelimit == (None, None)


def test_stamps_are_the_options_that_stamped_headers_lists() -> None:
    call = asked(PLAN, (), {}, {"stamped_headers": {"b", "a"}, "a": [1], "b": "B"})
    assert (call.stamped_headers, call.stamps) == (["a", "b"], {"a": [1], "b": "B"})
    with pytest.raises(KeyError):
        asked(PLAN, (), {}, {"stamped_headers": ["a"]})


def test_root_and_parent_are_those_of_the_running_task() -> None:
    with running(Request(id="p", root_id="r", called_directly=False)):
        call = asked(PLAN, (), {}, {})
        explicit = asked(PLAN, (), {}, {"root_id": "R", "parent_id": "P"})
    assert (call.root_id, call.parent_id) == ("r", "p")
    assert (explicit.root_id, explicit.parent_id) == ("R", "P")
    with running(Request(id="p", called_directly=False)):
        assert asked(PLAN, (), {}, {}).root_id == "p"
    with running(Request(id="p")):  # called as a function: nobody's task
        assert asked(PLAN, (), {}, {}).parent_id is None


def test_the_running_tasks_priority_is_inherited_when_the_setting_says_so() -> None:
    with running(Request(id="p", called_directly=False, delivery_info={"priority": 3})):
        assert asked(PLAN, (), {}, {}).priority is None
        with settings.override(TASK_INHERIT_PARENT_PRIORITY=True):
            assert asked(PLAN, (), {}, {}).priority == 3
            assert asked(PLAN, (), {}, {"priority": 5}).priority == 5


@pytest.mark.parametrize(
    ("call_says", "task_says", "setting", "expected"),
    [
        (None, None, False, False),
        (None, None, True, True),
        (None, False, True, False),
        (True, False, False, True),
    ],
)
def test_whether_the_result_is_ignored(call_says: Any, task_says: Any, setting: bool, expected: bool) -> None:
    call = asked(Plan("t", ignore_result=task_says), (), {}, {"ignore_result": call_says})
    with settings.override(TASK_IGNORE_RESULT=setting):
        assert call.ignores_result is expected
