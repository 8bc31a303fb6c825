"""The seam to schedules: a pure function from a moment to the next slot.

A slot is a moment at which something is to happen once. Whoever writes a schedule class says what comes
after a moment (`next_after`) and what it is in plain words (`describe`); the rest follows. Moments are aware
datetimes; a naive one is read as wall-clock time in the schedule's time zone. Slots are returned in UTC,
because Python compares two local times by the wall clock, which is wrong in an hour that comes twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from djqueue.conf import settings

#: the finest step between two moments
TICK = timedelta(microseconds=1)
#: how far `latest_slot` looks back first, and by how much more each time nothing was found
FIRST_LOOK_BACK, WIDEN = timedelta(minutes=1), 4


class schedstate(NamedTuple):  # noqa: N801 - Celery's name
    """Whether a run is due, and in how many seconds to ask again."""

    is_due: bool
    next: float


class BaseSchedule(ABC):
    """A rule that says when. Values: never changed after they are made, safe to share and to pickle.

    `nowfun` replaces the clock in `is_due` and `remaining_estimate`; nothing else looks at a clock.
    `tz` is the time zone whose wall clock counts; without it, the project's.
    """

    def __init__(self, *, nowfun: Callable[[], datetime] | None = None, tz: tzinfo | None = None) -> None:
        self.nowfun = nowfun
        self.tz = tz

    @abstractmethod
    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first slot later than `moment`, in UTC, or None when there is none any more."""

    @abstractmethod
    def describe(self) -> str:
        """Return the rule in plain words, such as "every weekday at 07:30 Europe/Oslo"."""

    def first_from(self, moment: datetime) -> datetime | None:
        """Return the first slot at or after `moment`, or None."""
        return self.next_after(self.utc(moment) - TICK)

    def latest_slot(self, first: datetime, until: datetime) -> datetime:
        """Return the last slot not after `until`, given that `first` is a slot and not after `until`.

        Looks back from `until` in growing steps, so that years of missed minutes cost little.
        """
        slot, until, look_back = self.utc(first), self.utc(until), FIRST_LOOK_BACK
        while until - slot > look_back:
            found = self.next_after(until - look_back)
            if found is not None and found <= until:
                slot = found
                break
            look_back *= WIDEN
        while (following := self.next_after(slot)) is not None and following <= until:
            slot = following
        return slot

    def upcoming(self, moment: datetime, count: int) -> list[datetime]:
        """Return up to `count` slots later than `moment`, in order."""
        slots: list[datetime] = []
        following = self.next_after(moment)
        while following is not None and len(slots) < count:
            slots.append(following)
            following = self.next_after(following)
        return slots

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Return whether a run is due now, given when the last one was, and the seconds to the next look."""
        now = self.now()
        following = self.next_after(last_run_at)
        due = following is not None and following <= now
        if due:
            following = self.next_after(now)
        return schedstate(due, float("inf") if following is None else (following - now).total_seconds())

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """Return the time from now to the slot after `last_run_at`; negative when that is over."""
        following = self.next_after(last_run_at)
        return timedelta.max if following is None else following - self.now()

    def now(self) -> datetime:
        """Return the present moment, by `nowfun` when there is one."""
        return self.utc(self.nowfun()) if self.nowfun else datetime.now(UTC)

    def zone(self) -> tzinfo:
        """Return the time zone whose wall clock counts."""
        return self.tz or settings.timezone()

    def utc(self, moment: datetime) -> datetime:
        """Return `moment` in UTC; a naive one is wall-clock time in our zone."""
        return (moment if moment.tzinfo else moment.replace(tzinfo=self.zone())).astimezone(UTC)


def at_wall_clock(wall: datetime, zone: tzinfo) -> datetime:
    """Return the moment, in UTC, when the clocks of `zone` show `wall` (naive).

    A time that comes twice (clocks set back) is the first one; a time that never comes (clocks set forward)
    is shifted by the length of the gap: 02:30 becomes 03:30.
    """
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
