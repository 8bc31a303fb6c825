"""Crontab schedules: the minutes whose wall-clock time matches five fields.

The fields come in, in Celery's order (the day of the week is third); `next_after` leaves. Days must match
both day fields. A time that the clocks repeat in autumn is a slot once, the first time; one that they skip
in spring is shifted by the length of the gap. The search goes field by field, never minute by minute.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Iterator
from datetime import MAXYEAR, date, datetime, time, timedelta, tzinfo
from typing import Any

from djqueue.schedules import words
from djqueue.schedules.contract import BaseSchedule, at_wall_clock
from djqueue.schedules.fields import (
    DAY_OF_MONTH,
    DAY_OF_WEEK,
    HOUR,
    MINUTE,
    MONTH_OF_YEAR,
    Given,
    ParseException,
)

NO_TIME = timedelta(0)
MINUTE_LONG = timedelta(minutes=1)
#: longer than any day: within it we look for a gap that the clocks jumped over
LAST_DAY = timedelta(hours=25)
#: days of each month in the longest year
LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class crontab(BaseSchedule):  # noqa: N801 - Celery's name
    """Every minute whose minute, hour, day of the week, day of the month and month match.

    Each field is an int, a collection of ints, or a string: `*`, `*/15`, `8-17`, `8-17/2`, `mon-fri`,
    `1,15`, `22-2`. Days of the week count from Sunday, 0.

    `tz` is the time zone whose wall clock counts (the project's if it is left out).
    """

    def __init__(
        self,
        minute: Given = "*",
        hour: Given = "*",
        day_of_week: Given = "*",
        day_of_month: Given = "*",
        month_of_year: Given = "*",
        nowfun: Callable[[], datetime] | None = None,
        tz: tzinfo | None = None,
    ) -> None:
        super().__init__(nowfun=nowfun, tz=tz)
        self._texts: dict[str, str] = {}
        self._sorted: dict[str, tuple[int, ...]] = {}
        for field, given in (
            (MINUTE, minute),
            (HOUR, hour),
            (DAY_OF_WEEK, day_of_week),
            (DAY_OF_MONTH, day_of_month),
            (MONTH_OF_YEAR, month_of_year),
        ):
            self._texts[field.name], self._sorted[field.name] = field.read(given)
        self._refuse_impossible_dates()

    @classmethod
    def from_string(cls, line: str) -> crontab:
        """Return the crontab of a line in the classic order: minute, hour, day, month, day of the week."""
        parts = line.split()
        if len(parts) != 5:
            raise ValueError(
                f"A crontab line has five fields (minute, hour, day of the month, month, day of the week);"
                f" {line!r} has {len(parts)}."
            )
        minute, hour, day, month, weekday = parts
        return cls(minute, hour, weekday, day, month)

    @property
    def texts(self) -> dict[str, str]:
        """The five fields as they were given, as text: what a table row keeps."""
        return dict(self._texts)

    @property
    def minute(self) -> set[int]:
        """The minutes that match."""
        return set(self._sorted["minute"])

    @property
    def hour(self) -> set[int]:
        """The hours that match."""
        return set(self._sorted["hour"])

    @property
    def day_of_week(self) -> set[int]:
        """The days of the week that match; Sunday is 0."""
        return set(self._sorted["day_of_week"])

    @property
    def day_of_month(self) -> set[int]:
        """The days of the month that match."""
        return set(self._sorted["day_of_month"])

    @property
    def month_of_year(self) -> set[int]:
        """The months that match; January is 1."""
        return set(self._sorted["month_of_year"])

    def next_after(self, moment: datetime) -> datetime:
        """Return the first slot later than `moment`."""
        moment, zone = self.utc(moment), self.zone()
        best: datetime | None = None
        shown = moment.astimezone(zone).replace(tzinfo=None)
        for wall in self._walls_after(shown - _jump_before(moment, zone)):
            slot = at_wall_clock(wall, zone)
            if slot <= moment:  # the clocks are in the second pass of a repeated hour
                continue
            best = slot if best is None else min(best, slot)
            # Shifted out of a gap, it may lie behind times that do exist: look on until one comes.
            if slot.astimezone(zone).replace(tzinfo=None, fold=0) == wall:
                return best
        if best is None:
            raise OverflowError(f"{self!r} has no slot between {moment} and the end of the year {MAXYEAR}.")
        return best

    def describe(self) -> str:
        """Return the schedule in plain words, with its time zone where that makes a difference."""
        phrase = words.crontab_in_words(self._sorted)
        if all(text == "*" for name, text in self._texts.items() if name != "minute"):
            return phrase
        return f"{phrase}{' ' if phrase[-1].isdigit() else ', '}{self.zone()}"

    def _walls_after(self, wall: datetime) -> Iterator[datetime]:
        """Yield the matching wall-clock times later than `wall`, in order."""
        start = wall.replace(second=0, microsecond=0) + MINUTE_LONG
        for day in self._days_from(start.date()):
            not_before = start.time() if day == start.date() else time.min
            for hour in self._sorted["hour"]:
                if hour < not_before.hour:
                    continue
                for minute in self._sorted["minute"]:
                    if hour > not_before.hour or minute >= not_before.minute:
                        yield datetime(day.year, day.month, day.day, hour, minute)

    def _days_from(self, start: date) -> Iterator[date]:
        weekdays = self._sorted["day_of_week"]
        for year in range(start.year, MAXYEAR + 1):
            for month in self._sorted["month_of_year"]:
                if (year, month) < (start.year, start.month):
                    continue
                first_weekday, length = monthrange(year, month)
                for number in self._sorted["day_of_month"]:
                    if number > length:
                        break
                    # monthrange counts from Monday, crontabs from Sunday.
                    if (first_weekday + number) % 7 not in weekdays:
                        continue
                    day = date(year, month, number)
                    if day >= start:
                        yield day

    def _refuse_impossible_dates(self) -> None:
        months = self._sorted["month_of_year"]
        if self._sorted["day_of_month"][0] > max(LONGEST[month - 1] for month in months):
            raise ParseException(
                f"day_of_month is {self._texts['day_of_month']!r} and month_of_year is"
                f" {self._texts['month_of_year']!r}: no such date exists, it would never run."
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, crontab):
            return NotImplemented
        return (self._sorted, self.tz) == (other._sorted, other.tz)

    def __hash__(self) -> int:
        return hash((tuple(self._sorted.values()), self.tz))

    def __repr__(self) -> str:
        order = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
        return f"<crontab: {' '.join(self._texts[name] for name in order)} (m/h/dM/MY/d)>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self._texts.values(), self.nowfun, self.tz)


def _jump_before(moment: datetime, zone: tzinfo) -> timedelta:
    """Return by how much the clocks of `zone` jumped forward in the day before `moment`.

    Times skipped by the jump are slots later on the clock, so the search begins that much earlier.
    """
    now, earlier = (when.astimezone(zone).utcoffset() for when in (moment, moment - LAST_DAY))
    return max((now or NO_TIME) - (earlier or NO_TIME), NO_TIME)
