"""Properties read by their shape: messages of one kind differ in a few texts and numbers, at known places.

The codec reads properties item by item, which is much of what receiving a message costs. What stays the same
from one message to the next is compared as bytes here, and only what differs is read. A message of a shape
that was not seen before is read by the codec.
"""

from __future__ import annotations

from struct import Struct, error
from typing import Any

from djqueue.messaging.transports.amqp import codec

Read = tuple[dict[str, Any], dict[str, Any], str | None, str | None]

#: so many shapes are known at a time; one is learnt from the first of so many messages that had none of them
MOST, LEARN_EVERY = 8, 16

#: How a value is written that differs from message to message.
_TEXT, _SHORT, _NUMBER, _LONG = range(4)
_u32, _i32, _u64 = Struct(">I").unpack_from, Struct(">i").unpack_from, Struct(">Q").unpack_from
#: Where the flags begin in the payload of a header frame.
_FLAGS = 12

#: Bytes that stay the same, how many these are, and name and kind of the value behind them.
Steps = list[tuple[bytes, int, str, int]]


class Shapes:
    """Reads properties. Used by one thread."""

    def __init__(self) -> None:
        self._known: list[Shape] = []
        self._misses = 0

    def read(self, payload: bytes) -> Read:
        """Return properties, headers, content type and encoding from the payload of a header frame.

        Raises:
            djqueue.messaging.transports.amqp.codec.Unreadable: as `codec.read_properties` does.
        """
        known = self._known
        for place, shape in enumerate(known):
            found = shape.read(payload)
            if found is not None:
                if place:
                    known.insert(0, known.pop(place))
                return found
        found = codec.read_properties(payload)
        if self._misses % LEARN_EVERY == 0 and (learnt := Shape.of(payload, found)):
            self._known = [learnt, *known[: MOST - 1]]
        self._misses += 1
        return found


class Shape:
    """What the properties of many messages have in common."""

    __slots__ = ("_encoding", "_fresh", "_head", "_headers", "_in_list", "_in_table", "_list", "_type")
    _head: bytes
    _in_table: tuple[Steps, bytes]
    _in_list: tuple[Steps, bytes]

    def __init__(self, read: Read) -> None:
        self._list, self._headers, self._type, self._encoding = read
        self._fresh = [(name, one) for name, one in self._headers.items() if isinstance(one, list | dict)]

    @classmethod
    def of(cls, payload: bytes, read: Read) -> Shape | None:
        """Return the shape of a payload that was `read`; None of one that is not worth it."""
        (flags,) = Struct(">H").unpack_from(payload, _FLAGS)
        shape = cls((dict(read[0]), dict(read[1]), read[2], read[3]))
        if not flags & codec.HEADERS or not all(_is_flat(one) for _, one in shape._fresh):
            return None
        at = _FLAGS + 2
        for bit in (codec.CONTENT_TYPE, codec.CONTENT_ENCODING):
            if flags & bit:
                at += 1 + payload[at]
        shape._head = payload[_FLAGS:at]
        at += 4
        end = at + _u32(payload, at - 4)[0]
        shape._in_table = _steps_of_table(payload, at, end)
        shape._in_list = _steps_of_list(payload, end, flags)
        return shape

    def read(self, payload: bytes) -> Read | None:
        """Return what the payload says; None if it has another shape."""
        head = self._head
        if not payload.startswith(head, _FLAGS):
            return None
        at = _FLAGS + len(head) + 4
        headers, properties = self._headers.copy(), self._list.copy()
        try:
            end = at + _u32(payload, at - 4)[0]
            at = _fill(headers, self._in_table, payload, at)
            if at != end or _fill(properties, self._in_list, payload, at) != len(payload):
                return None
        except (error, UnicodeDecodeError, IndexError):  # the codec knows what to say of it
            return None
        for name, one in self._fresh:
            headers[name] = one.copy()
        return properties, headers, self._type, self._encoding


def _fill(values: dict[str, Any], steps: tuple[Steps, bytes], payload: bytes, at: int) -> int:
    """Put in what differs, and return where it ends; -1 if something is not as it should be."""
    some, rest = steps
    is_there = payload.startswith
    for same, length, name, kind in some:
        if not is_there(same, at):
            return -1
        at += length
        if kind == _TEXT:
            begin = at + 4
            at = begin + _u32(payload, at)[0]
            values[name] = payload[begin:at].decode()
        elif kind == _SHORT:
            begin = at + 1
            at = begin + payload[at]
            values[name] = payload[begin:at].decode()
        elif kind == _NUMBER:
            (values[name],) = _i32(payload, at)
            at += 4
        else:
            (values[name],) = _u64(payload, at)
            at += 8
    return at + len(rest) if is_there(rest, at) else -1


def _steps_of_table(payload: bytes, at: int, end: int) -> tuple[Steps, bytes]:
    steps: Steps = []
    since = at
    while at < end:
        after = at + 1 + payload[at]
        name, letter = codec.name_of(payload[at + 1 : after]), payload[after]
        at = after + 1
        if letter in b"SI":
            steps.append((payload[since:at], at - since, name, _TEXT if letter == 0x53 else _NUMBER))
            at += 4 + (_u32(payload, at)[0] if letter == 0x53 else 0)
            since = at
        else:
            _, at = codec.read_item(letter, payload, at, 1)
    return steps, payload[since:end]


def _steps_of_list(payload: bytes, at: int, flags: int) -> tuple[Steps, bytes]:
    steps: Steps = []
    since = at
    for name, bit, form in codec.PROPERTIES:
        if not flags & bit:
            continue
        if form == "b":  # delivery mode and priority: there are few
            at += 1
            continue
        steps.append((payload[since:at], at - since, name, _SHORT if form == "s" else _LONG))
        at += 1 + payload[at] if form == "s" else 8
        since = at
    return steps, payload[since:]


def _is_flat(value: list[Any] | dict[str, Any]) -> bool:
    members = value.values() if isinstance(value, dict) else value
    return not any(isinstance(one, list | dict) for one in members)
