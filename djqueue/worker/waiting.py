"""Where the worker's loop sleeps: files that become readable, a pipe to wake it, and a time to get up.

Sources and pools hand in files with a callback; signal handlers and threads call `wake`. One thread waits.
"""

from __future__ import annotations

import os
import selectors
from collections.abc import Callable
from typing import Any


class Waiting:
    """A selector with a self-pipe. `wake` may be called from any thread and from signal handlers."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(self._write_end, False)
        self.watch(self._read_end, self._drain)

    def watch(self, fileobj: Any, callback: Callable[[], None]) -> None:
        """Call back from `wait` whenever `fileobj` is readable."""
        self._selector.register(fileobj, selectors.EVENT_READ, callback)

    def unwatch(self, fileobj: Any) -> None:
        """Stop watching `fileobj`; one that is not watched is fine."""
        try:
            self._selector.unregister(fileobj)
        except (KeyError, ValueError):
            return

    def wait(self, timeout: float) -> None:
        """Sleep until a file is readable, `wake` is called, or `timeout` seconds are over."""
        for key, _ in self._selector.select(max(timeout, 0.0)):
            key.data()

    def wake(self) -> None:
        """Make `wait` return soon."""
        try:
            os.write(self._write_end, b"\0")
        except (BlockingIOError, OSError):  # full: it wakes anyway; closed: nobody waits
            return

    def close(self) -> None:
        """Close the pipe and the selector."""
        self._selector.close()
        os.close(self._read_end)
        os.close(self._write_end)

    def _drain(self) -> None:
        while True:
            try:
                if len(os.read(self._read_end, 4096)) < 4096:
                    return
            except BlockingIOError:
                return
