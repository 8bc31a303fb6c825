"""Intervals: every so many seconds, counted in time that passes, not on the wall clock.

A number of seconds or a timedelta comes in. Slots lie on a grid: each is the one before plus the interval,
whatever the moment the run really began, so that nothing drifts.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from djqueue.schedules.contract import BaseSchedule, at_wall_clock

DAY = timedelta(days=1)
#: largest first
UNITS = (
    ("day", DAY),
    ("hour", timedelta(hours=1)),
    ("minute", timedelta(minutes=1)),
    ("second", timedelta(seconds=1)),
)


class schedule(BaseSchedule):  # noqa: N801 - Celery's name
    """Every `run_every` (seconds or timedelta).

    With `relative=True` slots are rounded down, on the wall clock, to the largest unit that the interval is a
    multiple of: every two hours falls on full hours, every day on midnight.
    """

    def __init__(
        self,
        run_every: float | timedelta,
        relative: bool = False,
        nowfun: Callable[[], datetime] | None = None,
    ) -> None:
        super().__init__(nowfun=nowfun)
        self.run_every = _as_interval(run_every)
        self.relative = relative

    def next_after(self, moment: datetime) -> datetime:
        """Return `moment` (rounded down first, when relative) plus the interval."""
        return self._later(self._rounded(self.utc(moment)), self.run_every)

    def first_from(self, moment: datetime) -> datetime:
        """Return `moment` itself, rounded up when relative: an interval begins where it is told to."""
        moment = self.utc(moment)
        unit, rounded = self._unit(), self._rounded(moment)
        return moment if unit is None or rounded == moment else self._later(rounded, unit)

    def latest_slot(self, first: datetime, until: datetime) -> datetime:
        """Return the last point of the grid through `first` that is not after `until`."""
        first, until = self.utc(first), self.utc(until)
        steps = (until - first) // self.run_every
        # Days on the wall clock have 23 to 25 hours: the count may be off by one, either way.
        for count in (steps + 1, steps):
            slot = self._later(first, self.run_every * count)
            if slot <= until:
                return slot
        return self._later(first, self.run_every * (steps - 1))

    def describe(self) -> str:
        """Return the interval in plain words."""
        words, unit = f"every {_in_words(self.run_every)}", self._unit()
        if unit is None:
            return words
        place = "at midnight" if unit == DAY else f"on full {_in_words(unit)}s"
        return f"{words} {place} {self.zone()}"

    @property
    def seconds(self) -> float:
        """The interval in seconds."""
        return self.run_every.total_seconds()

    def _later(self, moment: datetime, delay: timedelta) -> datetime:
        if self._unit() != DAY:
            return moment + delay
        wall = moment.astimezone(self.zone()).replace(tzinfo=None)
        return at_wall_clock(wall + delay, self.zone())

    def _unit(self) -> timedelta | None:
        if not self.relative:
            return None
        return next((unit for _, unit in UNITS if not self.run_every % unit), None)

    def _rounded(self, moment: datetime) -> datetime:
        unit = self._unit()
        if unit is None:
            return moment
        wall = moment.astimezone(self.zone()).replace(tzinfo=None)
        midnight = datetime(wall.year, wall.month, wall.day)
        return at_wall_clock(midnight, self.zone()) if unit == DAY else moment - (wall - midnight) % unit

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, schedule):
            return NotImplemented
        return (self.run_every, self.relative) == (other.run_every, other.relative)

    def __hash__(self) -> int:
        return hash((self.run_every, self.relative))

    def __repr__(self) -> str:
        return f"<freq: {_in_words(self.run_every)}{', relative' if self.relative else ''}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.run_every, self.relative, self.nowfun)


def maybe_schedule(value: float | timedelta | BaseSchedule, relative: bool = False) -> BaseSchedule:
    """Return what people write for a schedule as one: seconds, a timedelta, or a schedule (kept as it is)."""
    return value if isinstance(value, BaseSchedule) else schedule(value, relative)


def _as_interval(given: Any) -> timedelta:
    if isinstance(given, timedelta):
        interval = given
    elif isinstance(given, int | float) and not isinstance(given, bool):
        interval = timedelta(seconds=given)
    else:
        raise TypeError(
            f"A schedule needs a number of seconds, a timedelta or a schedule such as crontab(minute=0),"
            f" not {given!r} ({type(given).__name__})."
        )
    if interval <= timedelta(0):
        raise ValueError(f"An interval must be longer than 0; {given!r} was given.")
    return interval


def _in_words(interval: timedelta) -> str:
    for name, unit in UNITS:
        if not interval % unit:
            count = interval // unit
            return name if count == 1 else f"{count} {name}s"
    return f"{interval.total_seconds()} seconds"
