"""What parent and children say to each other: length-prefixed frames of builtins, many to a write.

A frame is a tuple: its kind, then what belongs to it. `encode` makes bytes of it, a `FrameReader` makes
frames of whatever pieces arrive. The format is marshal's, the fastest there is for plain values; both ends
are forks of one process, so its versions never differ.
"""

from __future__ import annotations

import marshal
import struct
from collections.abc import Iterator
from typing import Any

# Parent to child.
JOBS = 0  #: [(number, tag, message, delivery info, starts, expected run time), …]
TAKE_BACK = 1  #: numbers of the jobs wanted back if they have not started, or None for all
INTERRUPT = 2  #: number of a job that reached its soft limit
STOP = 3  #: end after the running job

# Child to parent.
HELLO = 10  #: ready to take jobs
OUTCOMES = 11  #: [(number, outcome), …]
STATE = 12  #: number, document
RETURNED = 13  #: numbers of the jobs given back unstarted
INTERRUPTED = 14  #: number of the job that the soft limit was raised in
ESCAPED = 15  #: number of the job that an exception came out of, what it was, whether the soft limit
BYE = 16  #: about to exit, and why

Frame = tuple[Any, ...]

_LENGTH = struct.Struct("<I")
#: a length above this is no length: somebody else wrote into the socket
_LONGEST = 1 << 31


class BrokenStream(ValueError):
    """What came out of the socket is not what the other end of the protocol writes."""


def encode(frame: Frame) -> bytes:
    """Return the frame as bytes.

    Values that are not plain builtins (a lazy string, a date in an AMQP header) travel as their text.
    """
    try:
        content = marshal.dumps(frame)
    except ValueError:
        content = marshal.dumps(plain(frame))
    return _LENGTH.pack(len(content)) + content


class FrameReader:
    """Puts frames together from the pieces in which they arrive."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, piece: bytes) -> Iterator[Frame]:
        """Take what arrived and return the frames that are complete with it.

        Raises:
            BrokenStream: the bytes are no frames.
        """
        buffer = self._buffer
        buffer += piece
        start, end = 0, len(buffer)
        try:
            while end - start >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(buffer, start)
                if length > _LONGEST:
                    raise BrokenStream(f"A frame of {length} bytes was announced; nobody sends such a frame.")
                if end - start - _LENGTH.size < length:
                    break
                start += _LENGTH.size
                content = bytes(memoryview(buffer)[start : start + length])
                start += length
                yield _decoded(content)
        finally:
            del buffer[:start]


def plain(value: Any) -> Any:
    """Return the value with everything that marshal cannot carry replaced by its nearest builtin."""
    if isinstance(value, dict):
        copied = {}
        for key, item in value.items():
            copied[plain(key)] = plain(item)
        return copied
    if isinstance(value, list | tuple):
        items = []
        for item in value:  # a loop, not a comprehension: half the stack for deeply nested headers
            items.append(plain(item))
        return tuple(items) if isinstance(value, tuple) else items
    if value is None or type(value) in (str, bytes, bool, int, float):
        return value
    # Methods of the builtin, not its constructor: a subclass may say something else about itself.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(memoryview(value))
    return str(value)


def _decoded(content: bytes) -> Frame:
    try:
        frame = marshal.loads(content)
    except (ValueError, EOFError, TypeError) as error:
        raise BrokenStream(f"A frame cannot be read: {error}.") from error
    if type(frame) is not tuple or not frame:
        raise BrokenStream(f"A frame is a tuple that begins with its kind, not {type(frame).__name__}.")
    return frame
