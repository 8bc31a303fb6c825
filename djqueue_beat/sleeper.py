"""Sleeping until it is time, or until somebody asks to stop.

TERM, INT and QUIT come in; the handler only notes the name and wakes the sleeper through a pipe, so that
nothing is interrupted in the middle of a transaction.
"""

from __future__ import annotations

import os
import select
import signal
from types import FrameType
from typing import Any, Self

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class Sleeper:
    """A context in which the signals are ours; `asked_to_stop` is the name of the one that came."""

    def __init__(self) -> None:
        self.asked_to_stop: str | None = None
        self._read_end, self._write_end = os.pipe()
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for signum in STOP_SIGNALS:
            self._previous[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())
        os.close(self._read_end)
        os.close(self._write_end)

    def sleep(self, seconds: float) -> None:
        """Return after `seconds`, or at once when asked to stop."""
        select.select([self._read_end], [], [], max(seconds, 0.0))

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.asked_to_stop is None:
            self.asked_to_stop = signal.Signals(signum).name
            os.write(self._write_end, b"\0")
