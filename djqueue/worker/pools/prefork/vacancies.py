"""Which slots of the start board are to have a child, and when to ask for one that is missing.

The pool says how many are wanted, opens a vacancy when a child ends, and asks which are due: at once, or
later when children die as soon as they live. A child that came up is forgiven what its forerunners did.
"""

from __future__ import annotations

from collections.abc import Iterable

#: the pause after the first child that did not come up, and the longest, seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0


class Vacancies:
    """Used by the loop's thread only. Times are monotonic seconds; `slots` is how many slots there are."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        #: slots in which a child is wanted; others stay empty once their child has ended
        self.wanted: set[int] = set()
        self._open: dict[int, float] = {}  # slot → not before
        self._asked: set[int] = set()  # handed out, and nothing was heard yet
        self._recalled: set[int] = set()  # of those, where the child is to be replaced as soon as it is there
        self._failures: dict[int, int] = {}

    def want(self, count: int, taken: Iterable[int]) -> None:
        """Want so many more children, in slots that are not `taken`.

        Raises:
            ValueError: there are not enough slots.
        """
        coming = sorted(self._asked - self.wanted - self._recalled)  # and nobody has use for it yet
        taken = self.wanted | self._asked | set(taken)
        free = [slot for slot in range(self._slots) if slot not in taken]
        if count > len(coming) + len(free):
            raise ValueError(
                f"The pool has {len(self.wanted)} children and room for {len(coming) + len(free)} more; it"
                f" cannot grow by {count}."
            )
        for slot in [*coming, *free][:count]:
            self.wanted.add(slot)
            if slot not in self._asked:
                self.open(slot)

    def unwant(self, slot: int) -> None:
        """Want no child in the slot any more."""
        self.wanted.discard(slot)
        self._open.pop(slot, None)
        self._failures.pop(slot, None)

    def open(self, slot: int) -> None:
        """There is no child in the slot; if one is wanted, then at once."""
        if slot in self.wanted:
            self._open[slot] = 0.0

    def open_later(self, slot: int, now: float) -> float:
        """A child is wanted in the slot after a pause, for the last one did not come up; return the pause."""
        self._answered(slot)
        if slot not in self.wanted:
            return 0.0
        failures = self._failures.get(slot, 0)
        self._failures[slot] = failures + 1
        pause: float = min(FIRST_PAUSE * 2**failures, LONGEST_PAUSE)
        self._open[slot] = now + pause
        return pause

    def recall(self) -> None:
        """Want none of the children that were asked for and are not there yet, but others in their place."""
        self._recalled |= self._asked

    def filled(self, slot: int) -> bool:
        """A child was made for the slot; return whether it is still wanted."""
        is_welcome = slot in self.wanted and slot not in self._recalled
        self._answered(slot)
        return is_welcome

    def forgive(self, slot: int) -> None:
        """A child came up in the slot."""
        self._failures.pop(slot, None)

    def due(self, now: float) -> list[int]:
        """Return the slots to ask for now; each is handed out once."""
        due = [slot for slot, when in self._open.items() if when <= now]
        for slot in due:
            del self._open[slot]
            self._asked.add(slot)
        return due

    def seconds_to_next(self, now: float) -> float:
        """Return in how many seconds the next one is due."""
        return min(self._open.values(), default=float("inf")) - now

    def _answered(self, slot: int) -> None:
        self._asked.discard(slot)
        self._recalled.discard(slot)
