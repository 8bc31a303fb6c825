"""A single moment: the schedule of a thing to be done once, at a date and time.

A datetime comes in; `next_after` gives it back until it is over, then None.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from djqueue.schedules.contract import BaseSchedule


class clocked(BaseSchedule):  # noqa: N801 - the name people know
    """Once, at `clocked_time`. A naive time is wall-clock time in the project's zone."""

    def __init__(self, clocked_time: datetime, nowfun: Callable[[], datetime] | None = None) -> None:
        if not isinstance(clocked_time, datetime):
            raise TypeError(
                f"clocked() needs a datetime, not {clocked_time!r}; for instance"
                " clocked(datetime(2030, 1, 31, 12, 0, tzinfo=UTC))."
            )
        super().__init__(nowfun=nowfun)
        self.clocked_time = clocked_time

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the moment, or None once it is over."""
        when = self.utc(self.clocked_time)
        return when if when > self.utc(moment) else None

    def describe(self) -> str:
        """Return the moment in plain words."""
        when = self.utc(self.clocked_time).astimezone(self.zone())
        return f"once at {when:%Y-%m-%d %H:%M:%S} {self.zone()}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, clocked):
            return NotImplemented
        return self.clocked_time == other.clocked_time

    def __hash__(self) -> int:
        return hash(self.clocked_time)

    def __repr__(self) -> str:
        return f"<clocked: {self.clocked_time}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.clocked_time, self.nowfun)
