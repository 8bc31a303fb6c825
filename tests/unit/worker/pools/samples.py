"""Jobs, children and a nursery for unit tests.

A child is a socket pair: the parent's book on one end, what the child would read on the other. The nursery
only notes the signals it is asked to send.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator
from typing import Any

from djqueue.core.messages import WireMessage
from djqueue.worker.pools.contract import Job
from djqueue.worker.pools.prefork import frames
from djqueue.worker.pools.prefork.slots import ChildSlot, Line


def job(number: int, expected: float = 0.0, **options: Any) -> Job:
    """Return a job with little in it."""
    message = WireMessage({"id": str(number)}, {}, b"")
    return Job(number, f"tag-{number}", "a.task", message, {}, expected_runtime=expected, **options)


class Child:
    """Both ends of a line: `slot` is the parent's book, `heard` what a child would read."""

    def __init__(self, slot: int = 0, may_run: int | None = None) -> None:
        ours, self.sock = socket.socketpair()
        self.sock.setblocking(False)
        self.selector = selectors.DefaultSelector()
        self.slot = ChildSlot(slot, 1000 + slot, Line(ours, self.selector, lambda: None), may_run)
        self.slot.is_ready = True
        self._reader = frames.FrameReader()

    def heard(self) -> list[frames.Frame]:
        """Return the frames that have arrived at the child's end."""
        return list(self._frames())

    def close(self) -> None:
        self.slot.line.close()
        self.selector.close()
        self.sock.close()

    def _frames(self) -> Iterator[frames.Frame]:
        while True:
            try:
                piece = self.sock.recv(65536)
            except BlockingIOError:
                return
            if not piece:
                return
            yield from self._reader.feed(piece)


class Nursery:
    """Notes the signals it is asked to send."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, int]] = []

    def signal(self, pid: int, signum: int) -> None:
        self.sent.append((pid, signum))
