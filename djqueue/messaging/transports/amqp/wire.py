"""A connection to RabbitMQ: py-amqp's, with a short cut for the frames that every message needs.

Deliveries, confirms and returned messages go straight to whoever asked for them; all else (handshake,
declaring, errors) is py-amqp's. What goes wrong leaves as `Unreachable` or `Refused`, and the wire is closed.
"""

# py-amqp and kombu are typed in part.
# mypy: disable-error-code="no-untyped-call,misc"

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from struct import Struct, error
from typing import Any, NamedTuple

from amqp.exceptions import AMQPError, NotFound
from amqp.method_framing import frame_handler
from kombu.exceptions import KombuError
from kombu.transport import pyamqp

from djqueue.exceptions import OperationalError
from djqueue.messaging.transports.amqp import codec, encryption
from djqueue.messaging.transports.amqp.streams import Frame, PlainStream, SecureStream, Stream

#: how long closing politely may take, seconds
GOODBYE = 2.0

_DELIVER, _RETURN, _ACK, _NACK = (60, 60), (60, 50), (60, 80), (60, 120)
_METHOD = Struct(">HH")
_CONFIRM = Struct(">QB")
_SIZE = Struct(">Q")
_SETTLE = Struct(">BHIHHQBB")  # frame header, class 60, method, tag, bits, end
_METHOD_FRAME = Struct(">BHIHH")  # frame header, class, method
_HEADER_FRAME = Struct(">BHIHHQ")  # frame header, class, weight, size of the body
_FRAME = Struct(">BHI")
_LAST = 0xCE
_HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"


class Unreachable(OperationalError):
    """RabbitMQ did not answer; whether it did what it was asked is not known."""


class Refused(OperationalError):
    """RabbitMQ answered that it will not do this."""

    #: AMQP's number for it
    code = 0


class Arrival(NamedTuple):
    """A message as it came off the wire. `properties` is the payload of its header frame."""

    consumer: str
    number: int
    redelivered: bool
    exchange: str
    routing_key: str
    properties: bytes
    body: bytes


class Wire(pyamqp.Connection):
    """One connection, for one thread; only heartbeats may come from another."""

    def __init__(self, **arguments: Any) -> None:
        #: called with each message delivered to a consumer
        self.on_delivery: Callable[[Arrival], None] | None = None
        #: called with number, whether it stands for all before it as well, and whether it was accepted
        self.on_confirm: Callable[[int, bool, bool], None] | None = None
        #: called with code, words, exchange, routing key, and body of what could not be routed
        self.on_returned: Callable[[int, str, str, str, bytes], None] | None = None
        #: why RabbitMQ takes no messages at present, or None
        self.blocked: str | None = None
        super().__init__(
            frame_handler=_short_cut,
            on_blocked=self._note_blocked,
            on_unblocked=self._note_unblocked,
            **arguments,
        )

    def Transport(  # noqa: N802
        self, host: str, connect_timeout: float, ssl: Any = False, *timeouts: Any, socket_settings: Any = None
    ) -> Stream:
        """Make the stream that py-amqp is to use; py-amqp's timeouts are replaced by its own."""
        if ssl:
            return SecureStream(host, connect_timeout, ssl, socket_settings=socket_settings)
        return PlainStream(host, connect_timeout, socket_settings=socket_settings)

    @property
    def stream(self) -> Stream:
        """The bytes below. Raises `ConnectionResetError` once the connection is closed."""
        stream: Stream | None = self._transport
        if stream is None:
            raise ConnectionResetError("the connection is closed")
        return stream

    @property
    def is_open(self) -> bool:
        """Whether the connection can be used, as far as anybody knows."""
        return bool(self._transport is not None and self._transport.connected)

    def blocking_read(self, timeout: float | None = None) -> Any:
        """Read one frame and act on it; return whether it was the last of a method."""
        stream = self.stream
        return self.on_inbound_frame(
            stream.read_frame_within(stream.patience if timeout is None else timeout)
        )

    def take(self) -> None:
        """Act on everything that has arrived, without waiting."""
        stream, act = self.stream, self.on_inbound_frame
        while True:
            while True:
                if self.on_delivery is not None:
                    stream.at = _hand_over_whole(stream.data, stream.at, self.on_delivery)
                frame = stream.next_frame()
                if frame is None:
                    break
                act(frame)
            if not stream.fill():
                return

    def settle(self, channel: int, answers: list[tuple[int, bool, bool]]) -> None:
        """Write acknowledgements: number, whether all before it are meant as well, and whether to requeue."""
        pack = _SETTLE.pack
        self.stream.write(
            b"".join(
                [
                    pack(1, channel, 13, 60, 120, number, multiple | 2, 0xCE)
                    if requeue
                    else pack(1, channel, 13, 60, 80, number, multiple, 0xCE)
                    for number, multiple, requeue in answers
                ]
            )
        )

    def beat(self) -> None:
        """Tell RabbitMQ that this process lives, if it has not heard of it for a while."""
        self.stream.beat(_HEARTBEAT, self.heartbeat / 3)

    @property
    def is_silent(self) -> bool:
        """Whether nothing came in for two heartbeats: then nobody is there any more."""
        return bool(self.heartbeat) and time.monotonic() - self.stream.heard_at > 2 * self.heartbeat

    def leave(self) -> None:
        """Close politely, so that everything written is read; within a moment."""
        if not self.is_open:
            self.drop()
            return
        self.stream.patience = GOODBYE
        self.on_delivery = self.on_confirm = self.on_returned = None
        with suppress(OSError, AMQPError, KombuError, AttributeError):
            self.close()
        self.drop()

    def drop(self) -> None:
        """Close at once."""
        with suppress(OSError, AttributeError):
            self.collect()

    def _note_blocked(self, reason: str) -> None:
        self.blocked = reason

    def _note_unblocked(self) -> None:
        self.blocked = None


@contextmanager
def errors_of(wire: Wire) -> Iterator[None]:
    """Turn what goes wrong inside into `Unreachable` or `Refused`, and close the connection."""
    try:
        yield
    except OperationalError:
        wire.drop()
        raise
    except (OSError, AMQPError, KombuError, AttributeError, KeyError) as problem:
        # py-amqp's own attributes are None once it has closed.
        wire.drop()
        raise translated(problem) from problem


def translated(problem: Exception) -> OperationalError:
    """Return the problem as an error of ours."""
    code = getattr(problem, "reply_code", 0) or getattr(problem, "code", 0)
    words = getattr(problem, "reply_text", None) or str(problem) or type(problem).__name__
    if isinstance(problem, AMQPError) and code in (311, 402, 403, 404, 405, 406, 504, 530, 540):
        refusal = Refused(f"RabbitMQ refused: {words}")
        refusal.code = 404 if isinstance(problem, NotFound) else code
        return refusal
    return Unreachable(encryption.refusal(problem) or f"RabbitMQ cannot be reached: {words}")


def _hand_over_whole(data: bytes, at: int, hand_over: Callable[[Arrival], None]) -> int:
    """Hand over messages of which all is there, in the three frames that most have; return where they end.

    This is done once for every message. Whatever looks different is left to who acts on single frames.
    """
    name_of = codec.name_of
    try:
        while True:
            kind, channel, size, *method = _METHOD_FRAME.unpack_from(data, at)
            if kind != 1 or method != [60, 60]:
                return at
            header = at + 8 + size
            second, same, size, _, _, length = _HEADER_FRAME.unpack_from(data, header)
            body = header + 8 + size
            third, also, size = _FRAME.unpack_from(data, body)
            end = body + 8 + size
            if (
                (second, third, same, also, size) != (2, 3, channel, channel, length)
                or data[end - 1] != _LAST
                or data[body - 1] != _LAST
                or data[header - 1] != _LAST
            ):
                return at
            tag = at + 12 + data[at + 11]
            exchange = tag + 10 + data[tag + 9]
            (number,) = _SIZE.unpack_from(data, tag)
            hand_over(
                Arrival(
                    name_of(data[at + 12 : tag]),
                    number,
                    bool(data[tag + 8] & 1),
                    name_of(data[tag + 10 : exchange]),
                    name_of(data[exchange + 1 : exchange + 1 + data[exchange]]),
                    data[header + 7 : body - 1],
                    data[body + 7 : end - 1],
                )
            )
            at = end
    except (error, IndexError):  # the rest is still to come
        return at


def _short_cut(wire: Wire, callback: Callable[..., None]) -> Callable[[Frame], bool]:
    """Return the function that acts on frames: some here, the rest as py-amqp does."""
    elsewhere = frame_handler(wire, callback)
    coming: dict[int, _Content] = {}

    def act(frame: Frame) -> bool:
        kind, channel, payload = frame
        if kind == 1 and channel:
            method = _METHOD.unpack_from(payload)
            if method in (_DELIVER, _RETURN):
                coming[channel] = _Content(method, payload)
                return False
            if method in (_ACK, _NACK) and wire.on_confirm is not None:
                number, bits = _CONFIRM.unpack_from(payload, 4)
                wire.on_confirm(number, bool(bits & 1), method == _ACK)
                return True
        elif kind in (2, 3) and (content := coming.get(channel)) is not None:
            if kind == 2:
                content.properties = payload
                (content.missing,) = _SIZE.unpack_from(payload, 4)
            else:
                content.parts.append(payload)
                content.missing -= len(payload)
            if content.missing > 0:
                return False
            del coming[channel]
            content.hand_over(wire)
            return True
        return bool(elsewhere(frame))

    return act


class _Content:
    """A message of which not every frame has come yet."""

    __slots__ = ("_arguments", "_method", "missing", "parts", "properties")

    def __init__(self, method: tuple[int, int], arguments: bytes) -> None:
        self._method = method
        self._arguments = arguments
        self.properties = b""
        self.parts: list[bytes] = []
        self.missing = 0

    def hand_over(self, wire: Wire) -> None:
        """Give the whole message to whoever waits for it."""
        parts, raw = self.parts, self._arguments
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        if self._method == _DELIVER:
            if wire.on_delivery is not None:
                consumer, at = _short(raw, 4)
                (number,) = _SIZE.unpack_from(raw, at)
                exchange, after = _short(raw, at + 9)
                routing_key, _ = _short(raw, after)
                wire.on_delivery(
                    Arrival(
                        consumer, number, bool(raw[at + 8] & 1), exchange, routing_key, self.properties, body
                    )
                )
        elif wire.on_returned is not None:
            words, at = _short(raw, 6)
            exchange, at = _short(raw, at)
            routing_key, _ = _short(raw, at)
            wire.on_returned(int.from_bytes(raw[4:6], "big"), words, exchange, routing_key, body)


def _short(raw: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + raw[at]
    return raw[at + 1 : end].decode("utf-8", "surrogatepass"), end
