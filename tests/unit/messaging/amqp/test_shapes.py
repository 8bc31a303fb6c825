"""Read by its shape or by the codec, a message says the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djqueue.messaging.transports.amqp import codec
from djqueue.messaging.transports.amqp.shapes import LEARN_EVERY, Shapes

SHORT = st.text(alphabet=st.characters(codec="utf-8"), max_size=40)
PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | SHORT
HEADERS = st.dictionaries(
    SHORT, PLAIN | st.lists(PLAIN, max_size=2) | st.dictionaries(SHORT, PLAIN, max_size=2)
)
PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "correlation_id": SHORT,
        "reply_to": SHORT,
        "priority": st.integers(0, 255),
        "delivery_mode": st.integers(1, 2),
        "timestamp": st.integers(0, 2**64 - 1),
        "message_id": SHORT,
    },
)


def payload(headers: dict[str, Any], properties: dict[str, Any]) -> bytes:
    """Return a header frame's payload."""
    return bytes(12) + codec.write_properties(properties, headers, "application/json", "utf-8")


def task(number: int, **others: Any) -> bytes:
    """Return the payload of a usual message."""
    headers = {"lang": "py", "id": f"id-{number}", "retries": number % 3, "group": None, "stamps": {}}
    return payload(
        {**headers, "timelimit": [None, None], "argsrepr": f"({number},)", **others},
        {"correlation_id": f"id-{number}", "priority": 0},
    )


@given(st.lists(st.tuples(HEADERS, PROPERTIES), min_size=1, max_size=3))
def test_it_reads_what_the_codec_reads(some: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    shapes = Shapes()
    for headers, properties in some * 2:
        written = payload(headers, properties)
        for _ in range(LEARN_EVERY + 1):
            assert shapes.read(written) == codec.read_properties(written)


def test_messages_of_several_shapes_that_differ_in_texts_of_any_length() -> None:
    shapes = Shapes()
    for number in range(500):
        written = task(number, argsrepr="x" * number * 3)
        if number % 3:
            written = task(number, group="a", group_index=number)
        if number % 7 == 0:
            written = task(number, eta="2030-01-01", shadow="ä" * number)
        assert shapes.read(written) == codec.read_properties(written)


def test_what_was_read_from_one_message_does_not_change_with_another() -> None:
    shapes = Shapes()
    first, second = (shapes.read(task(number))[1] for number in (1, 2))
    second["timelimit"][0] = 5
    second["stamps"]["a"] = "b"
    third = shapes.read(task(3))[1]
    for one, number in ((first, 1), (third, 3)):
        assert one["timelimit"] == [None, None]
        assert one["stamps"] == {}
        assert one["id"] == f"id-{number}"


def test_damage_is_told_of_as_the_codec_does() -> None:
    shapes = Shapes()
    whole = task(1)
    shapes.read(whole)
    for cut in range(13, len(whole)):
        assert outcome(shapes.read, whole[:cut]) == outcome(codec.read_properties, whole[:cut])
    for place in range(12, len(whole)):
        for byte in (0, 1, 0x53, 0xFF):
            damaged = whole[:place] + bytes((byte,)) + whole[place + 1 :]
            assert outcome(shapes.read, damaged) == outcome(codec.read_properties, damaged)


def outcome(read: Any, written: bytes) -> Any:
    """Return what is read, or that nothing can be."""
    try:
        return read(written)
    except codec.Unreadable:
        return "unreadable"


@pytest.mark.parametrize("text", ["\ud800", "a\0b", "é" * 300])
def test_odd_texts(text: str) -> None:
    shapes = Shapes()
    for number in range(3):
        written = task(number, argsrepr=text)
        assert shapes.read(written) == codec.read_properties(written)
