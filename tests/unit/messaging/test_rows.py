"""Messages as rows and back: what is kept, what is copied for scheduling, what is refused.

Outgoing messages and rows go in; no database is asked.
"""

from __future__ import annotations

import datetime
import math
from typing import Any

import pytest

from djqueue.core.messages import Destination, Outgoing, WireMessage
from djqueue.core.serialization import LARGEST
from djqueue.exceptions import EncodeError
from djqueue.messaging.tables import rows


def row(headers: dict[str, Any], properties: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the columns of a message with these headers and properties."""
    outgoing = Outgoing(WireMessage(headers, properties or {}, b"[]"), Destination("x", "k", "q"), due=5e9)
    return dict(zip(rows.SENT, rows.to_row(outgoing, "q", "now"), strict=True))


def test_scheduling_has_columns_of_its_own() -> None:
    columns = row({"task": "t", "id": "i"}, {"priority": 3})
    assert {name: columns[name] for name in ("queue", "exchange", "routing_key", "task", "task_id")} == {
        "queue": "q",
        "exchange": "x",
        "routing_key": "k",
        "task": "t",
        "task_id": "i",
    }
    assert (columns["priority"], columns["due"], columns["starts"], columns["created"]) == (3, 5e9, 0, "now")


@pytest.mark.parametrize(
    ("given", "kept"),
    [(None, 0), (0, 0), (9, 9), (-3, 0), (999, 255), (2.9, 2), ("9", 0), (math.nan, 0), (math.inf, 255)],
)
def test_the_priority_to_schedule_by_is_in_bounds(given: Any, kept: int) -> None:
    assert row({}, {"priority": given})["priority"] == kept


def test_what_is_due_waits_for_nothing() -> None:
    assert rows.later(None) is None
    assert rows.later(1.0) is None
    assert rows.later(5e9) == 5e9


def test_the_id_of_a_protocol_1_message_is_its_correlation_id() -> None:
    assert row({}, {"correlation_id": "i"})["task_id"] == "i"


@pytest.mark.parametrize("value", [None, 5, ["t"], {"t": 1}])
def test_names_that_are_no_text_are_left_out_of_the_columns(value: Any) -> None:
    assert row({"task": value, "id": value})["task"] == ""


def test_names_are_cut_to_the_columns_and_kept_whole_in_the_headers() -> None:
    columns = row({"id": "x" * 300})
    assert columns["task_id"] == "x" * 255
    assert "x" * 300 in columns["headers"]


def test_headers_carry_what_djangos_encoder_carries_and_nothing_more() -> None:
    assert row({"at": datetime.date(2030, 1, 31)})["headers"] == '{"at":"2030-01-31"}'
    with pytest.raises(EncodeError, match=r"A header of the message cannot be written as JSON"):
        row({"thing": object()})
    with pytest.raises(EncodeError, match=r"A property of the message cannot be written as JSON"):
        row({}, {"thing": {1, 2}})


def test_odd_text_survives() -> None:
    headers = {"half": "\ud800", "nul": "\0", "line": "\u2028"}
    assert rows.to_message(b"", row(headers)["headers"], "{}", "", "").headers == headers


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "1", "\0", "[" * 100_000])
def test_what_is_no_object_is_unreadable(text: str) -> None:
    with pytest.raises(rows.Unreadable):
        rows.to_message(b"", text, "{}", "", "")
    with pytest.raises(rows.Unreadable):
        rows.to_message(b"", "{}", text, "", "")


def test_a_body_beyond_all_bounds_is_unreadable() -> None:
    with pytest.raises(rows.Unreadable, match="at most"):
        rows.to_message(memoryview(bytes(LARGEST + 1)), "{}", "{}", "", "")
