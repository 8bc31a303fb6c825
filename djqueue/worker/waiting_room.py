"""Admitted work that may not start yet: it is due in a moment, or its task is over its rate limit.

Admission puts entries in with the time they may go; the loop takes out whatever is ready. Pure: the clock
is passed in. Long delays never wait here, the broker keeps them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

from djqueue.worker.ledger import Entry


class WaitingRoom:
    """A heap of entries by the time (monotonic seconds) at which they may start."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Entry]] = []
        self._turn = count()  # first in, first out among equals

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, entry: Entry, until: float) -> None:
        """Keep `entry` until `until`."""
        heapq.heappush(self._heap, (until, next(self._turn), entry))

    def ready(self, now: float, most: int) -> list[Entry]:
        """Take out up to `most` entries whose time has come, in order."""
        entries: list[Entry] = []
        while self._heap and self._heap[0][0] <= now and len(entries) < most:
            entries.append(heapq.heappop(self._heap)[2])
        return entries

    def entries(self) -> list[tuple[float, Entry]]:
        """Return what waits, and until when."""
        return [(until, entry) for until, _, entry in sorted(self._heap)]

    def take_out(self, wanted: Callable[[Entry], bool]) -> list[Entry]:
        """Take out the entries that are `wanted`, in order, due or not."""
        entries = [entry for _, _, entry in sorted(self._heap) if wanted(entry)]
        if entries:
            self._heap = [one for one in self._heap if not wanted(one[2])]
            heapq.heapify(self._heap)
        return entries

    def seconds_to_next(self, now: float) -> float:
        """Return in how many seconds something becomes ready (infinity: nothing waits)."""
        return max(self._heap[0][0] - now, 0.0) if self._heap else float("inf")

    def empty(self) -> list[Entry]:
        """Take out everything, due or not."""
        entries = [entry for _, _, entry in sorted(self._heap)]
        self._heap.clear()
        return entries
