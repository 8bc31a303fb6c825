"""Bytes between this process and RabbitMQ: read in large pieces, written in one, never for longer than said.

py-amqp connects, and does TLS; from then on its transport is one of these. The socket does not block, so that
waiting is always counted; threads may write, one at a time.
"""

# py-amqp is not typed.
# mypy: disable-error-code="no-untyped-call,misc"

from __future__ import annotations

import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ssl import SSLWantReadError, SSLWantWriteError
from struct import Struct
from typing import Any

from amqp.exceptions import UnexpectedFrame
from amqp.transport import SSLTransport, TCPTransport

#: bytes asked for in one go
PIECE = 256 * 1024

_HEADER = Struct(">BHI")
_LAST = 0xCE
_NOT_NOW = (BlockingIOError, SSLWantReadError, SSLWantWriteError)

Frame = tuple[int, int, bytes]


class Stream:
    """What py-amqp's transports for TCP and TLS have in common once they are connected."""

    sock: Any
    connected: bool
    #: the longest that a write may take, seconds
    patience = 5.0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        #: what was read and, behind `at`, has not been acted on
        self.data = b""
        self.at = 0
        self._lock = threading.Lock()
        #: when bytes came in last, and went out, monotonic seconds
        self.heard_at = self.sent_at = time.monotonic()

    def _init_socket(self, *arguments: Any) -> None:
        super()._init_socket(*arguments)
        self.sock.setblocking(False)

    @contextmanager
    def having_timeout(self, timeout: float | None) -> Iterator[Any]:
        """Do what py-amqp does around a write; waiting is bounded here anyway."""
        yield self.sock

    def read_frame(self) -> Frame:
        """Return the next frame, waiting at most `patience`."""
        return self.read_frame_within(self.patience)

    def read_frame_within(self, seconds: float) -> Frame:
        """Return the next frame.

        Raises:
            TimeoutError: it did not come within so many seconds.
            OSError: the connection is broken.
        """
        until = time.monotonic() + seconds
        while (frame := self.next_frame()) is None:
            if self.fill():
                continue
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"RabbitMQ did not answer within {seconds:g} s")
            _wait(self.sock, select.POLLIN, left)
        return frame

    def next_frame(self) -> Frame | None:
        """Return the next frame if all of it has been read."""
        data, at = self.data, self.at
        if len(data) - at < 8:
            return None
        kind, channel, size = _HEADER.unpack_from(data, at)
        end = at + 7 + size
        if len(data) <= end:
            return None
        if data[end] != _LAST:
            raise UnexpectedFrame(f"A frame ends with {data[end]:#04x} instead of 0xce.")
        self.at = end + 1
        return kind, channel, data[at + 7 : end]

    def fill(self) -> bool:
        """Read what has arrived, without waiting; return whether that was anything.

        Raises:
            OSError: the connection is broken.
        """
        if self.sock is None:
            raise ConnectionResetError("the connection is closed")
        try:
            with self._lock:  # TLS must not be read and written at the same time
                piece = self.sock.recv(PIECE)
        except _NOT_NOW:
            return False
        except OSError:
            self.connected = False
            raise
        if not piece:
            self.connected = False
            raise ConnectionResetError("RabbitMQ closed the connection")
        self.heard_at = time.monotonic()
        rest = self.data[self.at :]
        self.data = rest + piece if rest else piece
        self.at = 0
        return True

    def write(self, data: Any) -> None:
        """Write all of it.

        Raises:
            TimeoutError: RabbitMQ did not take it within `patience`; the connection is of no use any more.
            OSError: the connection is broken.
        """
        with self._lock:
            self._write_all(memoryview(data))

    def beat(self, frame: bytes, quiet_for: float) -> None:
        """Write a heartbeat if nothing was written for so many seconds, unless somebody is writing now."""
        if time.monotonic() - self.sent_at < quiet_for or not self._lock.acquire(blocking=False):
            return
        try:
            self._write_all(memoryview(frame))
        finally:
            self._lock.release()

    def _write_all(self, view: memoryview) -> None:
        until = 0.0
        while view:
            try:
                view = view[self.sock.send(view) :]
            except _NOT_NOW as reason:
                now = time.monotonic()
                until = until or now + self.patience
                if now >= until:
                    self.connected = False
                    raise TimeoutError(f"RabbitMQ did not take any bytes for {self.patience:g} s") from reason
                wanted = select.POLLIN if isinstance(reason, SSLWantReadError) else select.POLLOUT
                _wait(self.sock, wanted, until - now)
            except (OSError, AttributeError) as reason:  # closed by another thread, the socket is None
                self.connected = False
                raise ConnectionResetError(f"The connection is broken: {reason}") from reason
        self.sent_at = time.monotonic()


class PlainStream(Stream, TCPTransport):
    """Over TCP."""


class SecureStream(Stream, SSLTransport):
    """Over TLS."""


def _wait(sock: Any, what: int, seconds: float) -> None:
    poll = select.poll()
    poll.register(sock, what)
    poll.poll(max(seconds, 0.0) * 1000)
