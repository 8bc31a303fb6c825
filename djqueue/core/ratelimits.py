"""Rates such as "10/m", and the bucket that spaces starts accordingly. Pure: the time is passed in.

Admission asks a task's bucket for a place; the answer is how long the task has to wait for it.
"""

from __future__ import annotations

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def per_second(rate: str | int | float | None) -> float:
    """Return how often per second `rate` allows; 0 is without limit. "10/s", "10/m", "10/h", or a number.

    Raises:
        ValueError: the rate cannot be read.
    """
    if not rate:
        return 0.0
    number, _, unit = str(rate).partition("/")
    try:
        value = float(number) / _SECONDS[unit.strip() or "s"]
    except (ValueError, KeyError):
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ValueError(
            f"The rate limit {rate!r} cannot be read; write '10/s', '10/m', '10/h' or a number per second."
        )
    return value


class TokenBucket:
    """Hands out places in time, `rate` per second, evenly spaced.

    No burst: after a pause the next one starts at once, and those behind it wait their turn (as Celery).
    """

    __slots__ = ("_next", "rate")

    def __init__(self, rate: float) -> None:
        if rate <= 0:
            raise ValueError(f"The rate must be above 0; it is {rate}.")
        self.rate = rate
        self._next = float("-inf")

    @classmethod
    def from_rate(cls, rate: str | int | float | None) -> TokenBucket | None:
        """Return the bucket for a rate as users write it, or None when it sets no limit."""
        value = per_second(rate)
        return cls(value) if value else None

    def take(self, now: float) -> float:
        """Take the next place, and return how many seconds after `now` it is (0: start at once)."""
        start = max(now, self._next)
        self._next = start + 1.0 / self.rate
        return start - now

    def wait(self, now: float) -> float:
        """Return how many seconds after `now` the next place is, without taking it."""
        return max(self._next - now, 0.0)
