"""Reading messages: tolerant of every sender that means a task, clear about everything that is none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djqueue.conf import settings
from djqueue.core import moments, protocol
from djqueue.core.calls import PROTOCOL_HEADERS, Plan, asked
from djqueue.core.messages import WireMessage
from djqueue.exceptions import EncodeError, InvalidTaskError
from tests.unit.core.handmade import ID, JSON, SIGNATURE, message


def request_of(**headers: Any) -> Any:
    return protocol.read_headers(message(**headers), {}, 0)


def test_task_and_id_are_all_a_message_needs() -> None:
    request = protocol.read_headers(message(), {"queue": "q"}, 2)
    assert (request.task, request.id, request.root_id, request.parent_id) == ("t.add", ID, ID, None)
    assert (request.retries, request.starts, request.attempt) == (0, 2, 2)
    assert request.timelimit == [None, None]
    assert protocol.time_limits(request) == (None, None)
    assert (protocol.due_at(request), protocol.expires_at(request)) == (None, None)
    assert request.delivery_info == {"queue": "q"}
    assert request.headers == {}
    assert request.called_directly is False
    assert request.ignore_result is None


def test_the_body_is_not_touched() -> None:
    odd = message()
    odd.body, odd.content_type = b"\xff not json", "application/x-python-serialize"
    assert protocol.read_headers(odd, {}, 0).id == ID


def test_everything_a_call_says_is_read_back() -> None:
    call = asked(
        Plan("t.add"),
        (1,),
        {"y": "é"},
        {
            "task_id": ID,
            "eta": "2030-01-01T00:00:00Z",
            "expires": datetime(2031, 1, 1, tzinfo=UTC),
            "retries": 3,
            "time_limit": 30,
            "soft_time_limit": 20,
            "group_id": "g",
            "group_index": 4,
            "root_id": "r",
            "parent_id": "p",
            "shadow": "s",
            "ignore_result": True,
            "reply_to": "rq",
            "link": SIGNATURE,
            "link_error": [SIGNATURE],
            "headers": {"h": 1},
            "priority": 7,
            "stamped_headers": ["st"],
            "st": "A",
            "replaced_task_nesting": 1,
            "compression": "zlib",
        },
    )
    sent = protocol.encode(call)
    request = protocol.read_headers(sent, {}, 1)
    assert (request.retries, request.attempt) == (3, (3 << 16) + 1)
    assert protocol.due_at(request) == call.due == datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    assert protocol.expires_at(request) == datetime(2031, 1, 1, tzinfo=UTC).timestamp()
    assert (request.time_limit, request.soft_time_limit) == protocol.time_limits(request) == (30, 20)
    assert (request.group, request.group_index) == ("g", 4)
    assert (request.root_id, request.parent_id, request.shadow) == ("r", "p", "s")
    assert (request.ignore_result, request.reply_to, request.correlation_id) == (True, "rq", ID)
    assert (request.headers, request.h) == ({"h": 1}, 1)
    assert (request.stamped_headers, request.stamps) == (["st"], {"st": "A"})
    assert (request.replaced_task_nesting, request.compression) == (1, "application/x-gzip")
    assert (request.argsrepr, request.kwargsrepr) == ("(1,)", "{'y': 'é'}")
    assert request.origin.startswith("gen")
    assert request.properties["priority"] == 7
    args, kwargs, embed = protocol.read_body(sent)
    assert (args, kwargs) == ([1], {"y": "é"})
    assert embed == {"callbacks": [SIGNATURE], "errbacks": [SIGNATURE], "chain": None, "chord": None}


@pytest.mark.parametrize(
    "headers",
    [
        {"root_id": None},
        {"root_id": ""},
        {"retries": None},
        {"timelimit": None},
        {"timelimit": []},
        {"eta": None, "expires": ""},
        {"group": None, "group_index": None, "stamps": None, "stamped_headers": None},
        {"shadow": 7, "argsrepr": [1], "origin": {"a": 1}, "lang": 5, "compression": None},
        {"ignore_result": "yes", "replaced_task_nesting": None},
        {"x-death": [{"count": 1}], "celery_beat_task": True, "periodic_task_name": "p", "": None},
        {"self": 1, "report": 2, "known": 3},
    ],
    ids=str,
)
def test_headers_of_other_senders_are_tolerated(headers: dict[str, Any]) -> None:
    request = request_of(**headers)
    assert (request.id, request.root_id, request.retries) == (ID, ID, 0)


def test_unknown_headers_are_kept_and_reached_as_attributes() -> None:
    request = request_of(periodic_task_name="nightly", self="s")
    assert request.headers == {"periodic_task_name": "nightly", "self": "s"}
    assert request.periodic_task_name == "nightly"


def test_time_limits_are_taken_in_the_order_given() -> None:
    assert protocol.time_limits(request_of(timelimit=[30, 20])) == (30, 20)
    assert protocol.time_limits(request_of(timelimit=[20.5, None])) == (
        20.5,
        None,
    )  # as node-celery-ts may send


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2030-01-01T00:00:00Z", datetime(2030, 1, 1, tzinfo=UTC)),
        ("2030-01-01T02:00:00+02:00", datetime(2030, 1, 1, tzinfo=UTC)),
        ("2030-01-01T00:00:00", datetime(2030, 1, 1, tzinfo=UTC)),
        ("2030-01-01", datetime(2030, 1, 1, tzinfo=UTC)),
        ("2030-01-01 00:00:00.5", datetime(2030, 1, 1, 0, 0, 0, 500000, tzinfo=UTC)),
        ("2030-01-01T00:00:00.123456789Z", datetime(2030, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)),
        ("20300101T000000Z", datetime(2030, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59-12:00", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) + timedelta(0)),
        ("0001-01-01T00:00:00+12:00", None),
    ],
)
def test_moments_are_read_in_every_form_of_iso_8601(text: str, moment: datetime | None) -> None:
    request = request_of(eta=text, expires=text)
    due = protocol.due_at(request)
    assert due is not None
    assert due == protocol.expires_at(request)
    if moment is not None and moment.year < 9999:
        assert due == moment.timestamp()


def test_a_datetime_that_a_transport_already_made_is_read() -> None:
    assert protocol.due_at(request_of_raw(eta=datetime(2030, 1, 1))) == 1893456000.0


def request_of_raw(**headers: Any) -> Any:
    return protocol.read_headers(WireMessage({"task": "t", "id": ID, **headers}, {}, b""), {}, 0)


@pytest.mark.parametrize(
    ("headers", "what"),
    [
        ({"id": None}, "'id' must be text; it is missing"),
        ({"id": ""}, "'id'"),
        ({"id": 7}, "'id'"),
        ({"id": "x" * 256}, "'id' is longer than 255"),
        ({"id": "a\0b"}, "'id' holds a NUL"),
        ({"id": "\ud800"}, "'id' holds half a character"),
        ({"task": None}, "'task'"),
        ({"task": ["t"]}, "'task'"),
        ({"root_id": 5}, "'root_id'"),
        ({"parent_id": {}}, "'parent_id'"),
        ({"group": [1]}, "'group'"),
        ({"group_index": "1"}, "'group_index' must be a whole number"),
        ({"group_index": True}, "'group_index'"),
        ({"retries": "3"}, "'retries'"),
        ({"retries": -1}, "'retries' must be from 0"),
        ({"retries": 2**40}, "'retries'"),
        ({"retries": 1.5}, "'retries'"),
        ({"timelimit": "30"}, "'timelimit' must be [hard, soft]"),
        ({"timelimit": [30]}, "'timelimit'"),
        ({"timelimit": [1, 2, 3]}, "'timelimit'"),
        ({"timelimit": ["30", None]}, "'timelimit'"),
        ({"timelimit": [-1, None]}, "'timelimit'"),
        ({"timelimit": [float("nan"), None]}, "'timelimit'"),
        ({"timelimit": {"hard": 1}}, "'timelimit'"),
        ({"eta": "garbage"}, "'eta' must be a moment in ISO 8601; it is 'garbage'"),
        ({"eta": 1893456000}, "'eta'"),
        ({"eta": 0}, "'eta'"),
        ({"expires": 60}, "'expires'"),
        ({"expires": "2030-13-01"}, "'expires'"),
        ({"expires": ["2030-01-01"]}, "'expires'"),
        ({"stamps": [1]}, "'stamps'"),
        ({"stamped_headers": "st"}, "'stamped_headers'"),
        ({"stamped_headers": [1]}, "'stamped_headers'"),
        ({"replaced_task_nesting": "x"}, "'replaced_task_nesting'"),
    ],
    ids=str,
)
def test_headers_that_mean_no_task_are_refused_in_words(headers: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidTaskError) as raised:
        request_of(**headers)
    assert what in str(raised.value)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("headers", [None, [], "task", 7])
def test_headers_that_are_no_object_are_refused(headers: Any) -> None:
    with pytest.raises(InvalidTaskError, match="headers"):
        protocol.read_headers(WireMessage(headers, {}, b""), {}, 0)


def test_properties_that_are_no_object_do_no_harm() -> None:
    odd = WireMessage({"task": "t", "id": ID}, ["x"], b"")  # type: ignore[arg-type]
    assert protocol.read_headers(odd).properties == {}


HEADER_NAMES = st.sampled_from([*PROTOCOL_HEADERS, "compression", "x-other", ""])
HEADERS = st.dictionaries(HEADER_NAMES, JSON, max_size=8)


@given(HEADERS, JSON, st.booleans())
def test_any_headers_give_a_request_or_an_invalid_task_error(headers: Any, sent: Any, complete: bool) -> None:
    if complete:
        headers = {**headers, "task": "t", "id": ID}
    try:
        request = protocol.read_headers(WireMessage(headers, sent, b""), {}, 0)
    except InvalidTaskError:
        return
    protocol.due_at(request), protocol.expires_at(request), protocol.time_limits(request)
    assert isinstance(request.id, str)
    assert isinstance(request.retries, int)


# Encoding


def test_a_draft_may_be_changed_before_it_is_sealed() -> None:
    draft = protocol.draft(asked(Plan("t.add"), (1,), {}, {}))
    draft.headers["x-trace"] = "abc"
    draft.properties["priority"] = 9
    sent = protocol.seal(draft)
    assert protocol.read_headers(sent).headers == {"x-trace": "abc"}
    assert sent.properties["priority"] == 9


def test_drafts_of_one_call_are_independent() -> None:
    call = asked(Plan("t.add"), (1,), {}, {"compression": "zlib", "stamped_headers": ["a"], "a": 1})
    first, second = protocol.encode(call), protocol.encode(call)
    first.headers["stamps"]["b"] = first.properties["x"] = 1
    assert second.headers["stamps"] == {"a": 1}
    assert protocol.encode(call) == second


def test_arguments_that_cannot_be_written_are_refused_when_sent() -> None:
    with pytest.raises(EncodeError):
        protocol.encode(asked(Plan("t.add"), (object(),), {}, {}))


def test_times_are_written_in_utc_or_in_the_time_zone_as_the_setting_says() -> None:
    with settings.override(TIMEZONE="Asia/Tokyo"):
        assert moments.now().utcoffset() == timedelta(0)
        with settings.override(ENABLE_UTC=False):
            call = asked(Plan("t"), (), {}, {"countdown": 60})
            assert call.eta is not None
            assert call.eta.endswith("+09:00")
            due = call.due
            assert due is not None
            assert abs(due - datetime.now(UTC).timestamp() - 60) < 5
