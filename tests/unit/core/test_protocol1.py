"""Protocol 1 is read in all the forms that clients write, and written for those who read nothing else."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djqueue.conf import settings
from djqueue.core import protocol
from djqueue.core.calls import PROTOCOL_HEADERS, Call, Plan, asked
from djqueue.core.messages import WireMessage
from djqueue.exceptions import ContentDisallowed, DecodeError, InvalidTaskError
from tests.unit.core.handmade import ID, JSON, NOTHING, SIGNATURE, v1


@pytest.mark.parametrize("headers", [None, {}], ids=str)
@pytest.mark.parametrize(
    "body",
    [
        {"task": "t.add", "id": ID, "args": [2, 2]},
        {"task": "t.add", "id": ID, "args": [2, 2], "kwargs": {}},
        {"task": "t.add", "id": ID, "args": [2, 2], "kwargs": {}, "expires": None, "eta": None, "utc": None},
        {"task": "t.add", "id": ID, "args": [2, 2], "retries": None, "timelimit": [None, None]},
    ],
    ids=len,
)
def test_protocol_1_in_all_its_shortness_becomes_protocol_2(body: Any, headers: Any) -> None:
    upgraded = protocol.upgrade_v1(v1(body, headers))
    request = protocol.read_headers(upgraded, {}, 0)
    assert (request.task, request.id, request.root_id) == ("t.add", ID, ID)
    assert (request.argsrepr, request.kwargsrepr) == ("(2, 2)", "{}")
    assert protocol.read_body(upgraded) == ([2, 2], {}, NOTHING)
    assert request.correlation_id == ID


def test_what_protocol_1_says_in_the_body_is_in_the_headers_afterwards() -> None:
    body = {
        "task": "t.add",
        "id": ID,
        "args": [1],
        "kwargs": {"y": 2},
        "taskset": "g",
        "group_index": 3,
        "retries": 2,
        "eta": "2030-01-01T00:00:00",
        "expires": "2031-01-01T00:00:00+00:00",
        "utc": True,
        "callbacks": [SIGNATURE],
        "errbacks": None,
        "timelimit": [30, 20],
        "chord": SIGNATURE,
    }
    upgraded = protocol.upgrade_v1(v1(body, {"x-other": 1}))
    assert list(upgraded.headers)[:-1] == list(PROTOCOL_HEADERS)
    request = protocol.read_headers(upgraded, {}, 0)
    assert (request.group, request.group_index, request.retries) == ("g", 3, 2)
    assert protocol.time_limits(request) == (30, 20)
    assert protocol.due_at(request) == datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    assert request.headers == {"x-other": 1}
    _, kwargs, embed = protocol.read_body(upgraded)
    assert kwargs == {"y": 2}
    assert embed == {"callbacks": [SIGNATURE], "errbacks": None, "chain": None, "chord": SIGNATURE}


def test_protocol_1_without_utc_means_the_local_time() -> None:
    body = {"task": "t", "id": ID, "args": [], "eta": "2030-01-01T00:00:00", "expires": "no", "utc": False}
    with settings.override(TIMEZONE="Asia/Tokyo"):
        upgraded = protocol.upgrade_v1(v1(body))
    assert upgraded.headers["eta"] == "2030-01-01T00:00:00+09:00"
    with pytest.raises(InvalidTaskError, match="'expires'"):
        protocol.read_headers(upgraded)


@pytest.mark.parametrize("compression", ["zlib", "bzip2"])
@pytest.mark.parametrize("serializer", ["json", "yaml", "pickle"])
def test_protocol_1_is_read_back_whatever_it_was_written_with(serializer: str, compression: str) -> None:
    options = {"task_protocol": 1, "serializer": serializer, "compression": compression, "task_id": ID}
    sent = protocol.encode(asked(Plan("t.add"), (1, "é"), {"k": [1]}, options))
    assert "task" not in sent.headers
    accept = ["json", serializer]
    upgraded = protocol.upgrade_v1(sent, accept)
    assert "compression" not in upgraded.headers
    args, kwargs, embed = protocol.read_body(upgraded, accept)
    assert (list(args), kwargs, embed) == ([1, "é"], {"k": [1]}, NOTHING)


@pytest.mark.parametrize("body", [{}, {"id": ID}, [], "x", 7, None, {"args": [1]}], ids=str)
def test_a_message_that_is_no_task_at_all_is_refused(body: Any) -> None:
    with pytest.raises(InvalidTaskError, match="not a task"):
        protocol.upgrade_v1(v1(body))


@pytest.mark.parametrize(
    "change", [{"kwargs": None}, {"kwargs": []}, {"args": None}, {"callbacks": 5}], ids=str
)
def test_protocol_1_with_odd_arguments_is_refused(change: Any) -> None:
    with pytest.raises(InvalidTaskError):
        protocol.upgrade_v1(v1({"task": "t", "id": ID, "args": [], **change}))


def test_protocol_1_that_may_not_or_cannot_be_read_is_refused() -> None:
    with pytest.raises(ContentDisallowed):
        protocol.upgrade_v1(v1({"task": "t"}, content_type="application/x-python-serialize"))
    with pytest.raises(DecodeError):
        protocol.upgrade_v1(WireMessage({}, {}, b"{"))
    with pytest.raises(InvalidTaskError, match="headers"):
        protocol.upgrade_v1(v1({"task": "t"}, headers=["x"]))


@given(JSON, st.booleans())
def test_any_json_is_protocol_1_or_an_invalid_task_error(body: Any, complete: bool) -> None:
    if complete and isinstance(body, dict):
        body = {"task": "t", "id": ID, **body}
    try:
        request = protocol.read_headers(protocol.upgrade_v1(v1(body)))
    except InvalidTaskError:
        return
    assert isinstance(request.task, str)


def test_protocol_1_has_no_chains_so_the_rest_is_nested_into_callbacks() -> None:
    third = {**SIGNATURE, "task": "t.third"}
    second = {**SIGNATURE, "task": "t.second", "options": {"link": [1]}}
    call = Call(Plan("t.first"), ID, chain=[third, second], callbacks=[SIGNATURE])
    body = json.loads(protocol.encode_v1(call).body)
    assert body["callbacks"] == [SIGNATURE, {**second, "options": {"link": [1, third]}}]
    assert second["options"] == {"link": [1]}
