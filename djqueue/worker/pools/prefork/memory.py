"""How much memory this process holds right now, for `max_memory_per_child`.

Linux says so in /proc; elsewhere the highest value so far has to do.
"""

from __future__ import annotations

import os
import resource
import sys

_PAGE = resource.getpagesize()


class ResidentMemory:
    """Reads this process's resident memory; made once, asked after each task."""

    def __init__(self) -> None:
        try:
            self._statm: int | None = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._statm = None

    def kib(self) -> int:
        """Return the resident memory in KiB."""
        if self._statm is not None:
            try:
                return int(os.pread(self._statm, 100, 0).split()[1]) * _PAGE // 1024
            except (OSError, ValueError, IndexError):  # a task closed the descriptor, or took its number
                self._statm = None
        highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return highest // 1024 if sys.platform == "darwin" else highest
