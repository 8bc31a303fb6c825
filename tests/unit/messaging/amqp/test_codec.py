"""What we write py-amqp reads, and the other way round; what cannot be said in AMQP is refused in words."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from amqp.basic_message import Message
from amqp.serialization import decode_properties_basic
from hypothesis import given
from hypothesis import strategies as st

from djqueue.exceptions import EncodeError
from djqueue.messaging.transports.amqp import codec

TEXT = st.text(max_size=40)
SHORT = st.text(alphabet=st.characters(codec="utf-8"), max_size=40)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(alphabet=st.characters(codec="utf-8"), max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SHORT, inner, max_size=4),
    max_leaves=12,
)
HEADERS = st.dictionaries(SHORT, VALUES, max_size=8)
HEAD = b"\x00" * 12  # class, weight and size of the body stand before the properties in a frame


@given(HEADERS, SHORT, st.integers(0, 255))
def test_py_amqp_reads_what_we_write(headers: dict[str, Any], name: str, priority: int) -> None:
    written = codec.write_properties(
        {"correlation_id": name, "priority": priority, "delivery_mode": 2, "reply_to": None},
        headers,
        "application/json",
        "utf-8",
    )
    read, end = decode_properties_basic(written, 0)
    assert end == len(written)
    assert read == {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "application_headers": headers,
        "delivery_mode": 2,
        "priority": priority,
        "correlation_id": name,
    }


@given(HEADERS, SHORT, st.integers(0, 255))
def test_we_read_what_py_amqp_writes(headers: dict[str, Any], name: str, priority: int) -> None:
    message = Message(
        content_type="text/plain",
        content_encoding="binary",
        application_headers=headers,
        priority=priority,
        message_id=name,
        expiration="60000",
        timestamp=2**33,
    )
    read = codec.read_properties(HEAD + message._serialize_properties())
    expected = {"priority": priority, "message_id": name, "expiration": "60000", "timestamp": 2**33}
    assert read == (expected, headers, "text/plain", "binary")


def test_every_kind_of_number_of_other_clients_is_read() -> None:
    table = (
        b"\x01bb\xff\x01BB\xff\x01ss\xff\xfe\x01uu\xff\xfe\x01ii\xff\xff\xff\xff\x01ff\x3f\x80\x00\x00"
        b"\x01ll\xff\xff\xff\xff\xff\xff\xff\xff\x01xx\x00\x00\x00\x02\x00\xff"
        b"\x01TT\x00\x00\x00\x00\x00\x00\x00\x00\x01DD\x02\x00\x00\x00\x7b"
    )
    payload = HEAD + b"\x20\x00" + len(table).to_bytes(4, "big") + table
    assert codec.read_properties(payload)[1] == {
        "b": -1,
        "B": 255,
        "s": -2,
        "u": 65534,
        "i": 2**32 - 1,
        "f": 1.0,
        "l": -1,
        "x": b"\x00\xff",
        "T": datetime(1970, 1, 1),
        "D": Decimal("1.23"),
    }


@given(st.binary(max_size=200))
def test_garbage_is_unreadable_and_nothing_else(garbage: bytes) -> None:
    try:
        codec.read_properties(HEAD + garbage)
    except codec.Unreadable:
        return


def test_headers_that_are_nested_too_deeply_are_unreadable() -> None:
    table = b""
    for _ in range(2000):
        table = b"\x01nF" + len(table).to_bytes(4, "big") + table
    payload = HEAD + b"\x20\x00" + len(table).to_bytes(4, "big") + table
    with pytest.raises(codec.Unreadable, match="levels deep"):
        codec.read_properties(payload)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"k": object()}, "a object"),
        ({"k": 2**70}, "cannot be written"),
        ({"k" * 256: 1}, "256 bytes long"),
        ({"k": Decimal("1e30")}, "Decimal"),
    ],
)
def test_headers_that_amqp_cannot_carry_are_refused(headers: dict[str, Any], said: str) -> None:
    with pytest.raises(EncodeError, match=said):
        codec.write_properties({}, headers, "a", "b")


def test_an_id_that_is_too_long_is_refused_and_says_so() -> None:
    with pytest.raises(EncodeError, match="correlation_id is 300 bytes long; AMQP takes at most 255"):
        codec.write_properties({"correlation_id": "x" * 300}, {}, "a", "b")


def test_what_would_let_rabbitmq_drop_a_message_is_never_sent() -> None:
    written = codec.write_properties({"expiration": "1000", "user_id": "someone"}, {}, "a", "b")
    read, _ = decode_properties_basic(written, 0)
    assert set(read) == {"content_type", "content_encoding", "application_headers"}


@pytest.mark.parametrize(("given", "sent"), [(-5, 0), (10_000, 255), (4.0, 4), ("high", None), (None, None)])
def test_a_priority_is_a_byte(given: Any, sent: int | None) -> None:
    read, _ = decode_properties_basic(codec.write_properties({"priority": given}, {}, "a", "b"), 0)
    assert read.get("priority") == sent


def test_a_large_body_is_cut_into_frames() -> None:
    body = bytes(range(256)) * 2000
    frames = codec.publish(1, "", "key", b"\x00\x00", body, frame_max=131072)
    bodies = []
    while frames:
        size = int.from_bytes(frames[3:7], "big")
        assert size + 8 <= 131072
        if frames[0] == codec.BODY:
            bodies.append(frames[7 : 7 + size])
        assert frames[7 + size] == 0xCE
        frames = frames[8 + size :]
    assert b"".join(bodies) == body
