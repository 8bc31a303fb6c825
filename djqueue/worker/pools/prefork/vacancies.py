"""Slots without a child, and when to ask for one: at once, or later when children die as soon as they live.

The pool opens a vacancy when a child ends, and asks which are due. A child that came up is forgiven what
its forerunners did.
"""

from __future__ import annotations

#: the pause after the first child that did not come up, and the longest, seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0


class Vacancies:
    """Used by the loop's thread only. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._open: dict[int, float] = {}  # slot → not before
        self._failures: dict[int, int] = {}

    def open(self, slot: int) -> None:
        """A child is wanted in the slot at once."""
        self._open[slot] = 0.0

    def open_later(self, slot: int, now: float) -> float:
        """A child is wanted in the slot after a pause, for the last one did not come up; return the pause."""
        failures = self._failures.get(slot, 0)
        self._failures[slot] = failures + 1
        pause: float = min(FIRST_PAUSE * 2**failures, LONGEST_PAUSE)
        self._open[slot] = now + pause
        return pause

    def forgive(self, slot: int) -> None:
        """A child came up in the slot."""
        self._failures.pop(slot, None)

    def due(self, now: float) -> list[int]:
        """Return the slots to ask for now; each is handed out once."""
        due = [slot for slot, when in self._open.items() if when <= now]
        for slot in due:
            del self._open[slot]
        return due

    def seconds_to_next(self, now: float) -> float:
        """Return in how many seconds the next one is due."""
        return min(self._open.values(), default=float("inf")) - now
