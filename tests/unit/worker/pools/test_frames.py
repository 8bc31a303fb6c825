"""Frames survive any cutting into pieces, carry what is no plain value as text, and refuse nonsense."""

from __future__ import annotations

import struct
from datetime import date
from decimal import Decimal
from enum import IntEnum, StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djqueue.states import state
from djqueue.worker.pools.prefork.frames import BrokenStream, FrameReader, encode, plain

plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(st.lists(st.tuples(st.integers(0, 20), plain_values), max_size=5), st.integers(1, 50))
def test_frames_arrive_as_they_were_whatever_the_pieces(sent: list[tuple[object, ...]], size: int) -> None:
    stream = b"".join(encode(frame) for frame in sent)
    reader = FrameReader()
    received = []
    for at in range(0, len(stream), size):
        received += list(reader.feed(stream[at : at + size]))
    assert received == sent


def test_what_is_no_plain_value_travels_as_its_nearest_builtin() -> None:
    class Colour(StrEnum):
        RED = "red"

    class Number(IntEnum):
        ONE = 1

    class Loud(str):
        def __str__(self) -> str:
            return "LOUD"

    value = {
        state("SUCCESS"): Colour.RED,
        "number": Number.ONE,
        "loud": Loud("quiet"),
        "price": Decimal("1.50"),
        "day": date(2024, 2, 29),
        "bytes": bytearray(b"ab"),
        "pair": (True, [Loud("x")]),
    }
    (received,) = FrameReader().feed(encode((1, value)))
    assert received == (
        1,
        {
            "SUCCESS": "red",
            "number": 1,
            "loud": "quiet",
            "price": "1.50",
            "day": "2024-02-29",
            "bytes": b"ab",
            "pair": (True, ["x"]),
        },
    )
    assert {type(item) for item in received[1].values()} <= {str, int, bytes, tuple}


def test_deep_nesting_is_no_problem() -> None:
    value: object = Decimal(1)
    for _ in range(500):
        value = [value]
    received = plain(value)
    for _ in range(500):
        (received,) = received
    assert received == "1"


@pytest.mark.parametrize(
    "stream",
    [
        b"\xff" * 8,
        struct.pack("<I", 3) + b"abc",
        struct.pack("<I", 0),
        struct.pack("<I", 5) + b"i\x01\x00\x00\x00",
    ],
)
def test_bytes_that_are_no_frames_are_refused(stream: bytes) -> None:
    with pytest.raises(BrokenStream):
        list(FrameReader().feed(stream))


def test_a_frame_that_is_no_tuple_is_refused() -> None:
    with pytest.raises(BrokenStream, match="not list"):
        list(FrameReader().feed(encode([1])))  # type: ignore[arg-type]
