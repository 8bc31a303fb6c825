"""Messages come off the wire whole and in order, however their frames arrive."""

from __future__ import annotations

from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djqueue.messaging.transports.amqp.streams import PlainStream
from djqueue.messaging.transports.amqp.wire import Arrival, Wire

PROPERTIES = bytes(14)
HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"
BODIES = st.lists(st.lists(st.binary(min_size=1, max_size=20), max_size=3), min_size=1, max_size=5)


def frame(kind: int, payload: bytes) -> bytes:
    """Return a frame of channel 1."""
    return pack(">BHI", kind, 1, len(payload)) + payload + b"\xce"


def delivered(number: int, parts: list[bytes]) -> bytes:
    """Return the frames that deliver a message whose body comes in so many parts."""
    method = pack(">HH", 60, 60) + b"\x03c.1" + pack(">QB", number, number % 2) + b"\x02ex\x05queue"
    header = pack(">HHQ", 60, 0, sum(map(len, parts))) + PROPERTIES[12:]
    return frame(1, method) + frame(2, header) + b"".join(frame(3, part) for part in parts)


class Pieces:
    """A socket from which the pieces come one after the other."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def recv(self, size: int) -> bytes:
        """Return the next piece."""
        if not self._pieces:
            raise BlockingIOError
        return self._pieces.pop(0)


def arrivals(pieces: list[bytes]) -> list[Arrival]:
    """Return what a connection hands over when these pieces arrive."""
    wire = Wire(host="127.0.0.1")
    stream: Any = PlainStream("127.0.0.1", 1)
    stream.sock, stream.connected = Pieces([piece for piece in pieces if piece]), True
    # What py-amqp does to connect, without the handshake.
    wire.transport = stream
    wire.on_inbound_frame = wire.frame_handler_cls(wire, wire.on_inbound_method)
    found: list[Arrival] = []
    wire.on_delivery = found.append
    wire.take()
    stream.sock = None
    return found


def expected(bodies: list[list[bytes]]) -> list[Arrival]:
    """Return what should be handed over."""
    return [
        Arrival(
            "c.1",
            number,
            bool(number % 2),
            "ex",
            "queue",
            pack(">HHQ", 60, 0, sum(map(len, parts))) + PROPERTIES[12:],
            b"".join(parts),
        )
        for number, parts in enumerate(bodies)
    ]


@given(BODIES, st.data())
def test_wherever_the_bytes_are_cut(bodies: list[list[bytes]], data: st.DataObject) -> None:
    every = b"".join(delivered(number, parts) for number, parts in enumerate(bodies))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(every)), max_size=4)))
    pieces = [every[a:b] for a, b in zip([0, *cuts], [*cuts, len(every)], strict=True)]
    assert arrivals(pieces) == expected(bodies)


def test_heartbeats_in_between_are_passed_over() -> None:
    bodies = [[b"a"], [b"b"], [b"c", b"d"], [b"e"]]
    every = [delivered(number, parts) + HEARTBEAT for number, parts in enumerate(bodies)]
    assert arrivals(every) == arrivals([b"".join(every)]) == expected(bodies)


@pytest.mark.parametrize("which", range(3))
def test_a_frame_that_does_not_end_as_one_is_an_error(which: int) -> None:
    whole = delivered(0, [b"body"])
    ends = [place for place, byte in enumerate(whole) if byte == 0xCE]
    damaged = bytearray(whole)
    damaged[ends[which]] = 0
    with pytest.raises(Exception, match="A frame ends with 0x00"):
        arrivals([bytes(damaged) + HEARTBEAT])
