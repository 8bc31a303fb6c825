"""Operating system signals, turned into words that the loop reads when it is ready.

A handler only appends and wakes; the loop acts. TERM and INT ask to stop, a second one (or QUIT) to stop
at once. Handlers are put back when the worker ends, so that it can run inside another program.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class OsSignals:
    """Written by the handlers (any moment, main thread), read by the loop."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._received: deque[signal.Signals] = deque()
        self._previous: dict[signal.Signals, Any] = {}

    def install(self) -> None:
        """Take over TERM, INT and QUIT."""
        for signum in (*STOP_SIGNALS, signal.SIGQUIT):
            self._previous[signum] = signal.signal(signum, self._note)

    def taken(self) -> list[signal.Signals]:
        """Return what came in since the last call, oldest first."""
        taken = []
        while self._received:
            taken.append(self._received.popleft())
        return taken

    def restore(self) -> None:
        """Put the former handlers back. May be called twice."""
        while self._previous:
            signum, handler = self._previous.popitem()
            signal.signal(signum, handler)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._received.append(signal.Signals(signum))
        self._wake()
