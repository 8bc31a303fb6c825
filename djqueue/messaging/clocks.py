"""The logical clock that orders what nodes tell each other, whatever their watches say.

Every message of remote control and every event carries its sender's reading; whoever receives one sets its
own clock behind it. Monitors sort by it.
"""

from __future__ import annotations

from threading import Lock
from typing import Any


class LamportClock:
    """A counter that only goes forward. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.value = 0

    def forward(self) -> int:
        """Count one event of our own, and return the new reading."""
        with self._lock:
            self.value += 1
            return self.value

    def adjust(self, other: Any) -> int:
        """Go behind the reading that came with a message, and return the new one; what is none is ignored."""
        reading = other if isinstance(other, int) and 0 <= other < 2**63 else 0
        with self._lock:
            self.value = max(self.value, reading) + 1
            return self.value
