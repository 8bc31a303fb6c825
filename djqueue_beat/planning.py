"""The sums of beat, pure: which slot a new entry waits for, and which slot a due one stands for.

A schedule and moments come in (all in UTC), slots leave. Slots lie on the schedule's own grid, whatever the
moment somebody looked, so nothing drifts and everybody who asks gets the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from djqueue.schedules import BaseSchedule

#: a last slot further ahead than this was sent by a clock that was wrong, and is not waited for
CLOCK_ERROR = timedelta(days=1)
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a due entry does now: send for `slot`, then wait for `following` (None: for nothing)."""

    slot: datetime
    following: datetime | None


def fingerprint(schedule: BaseSchedule, start_time: datetime | None) -> str:
    """Return a text that changes when the plan has to be made anew."""
    return f"{schedule!r} {schedule.zone()} from {start_time or 'now'}"


def first_slot(
    schedule: BaseSchedule, now: datetime, start_time: datetime | None, last_slot: datetime | None
) -> datetime | None:
    """Return the slot that a new or changed entry waits for.

    Slots that passed before anybody planned the entry are not made up for, except the only one there is
    (a clocked moment that has just gone by).
    """
    anchor = last_slot
    if start_time is not None:
        anchor = schedule.first_from(start_time)
        if anchor is not None and anchor > now:
            return anchor
    if anchor is None or anchor > now + CLOCK_ERROR:
        following = schedule.next_after(now)
    elif anchor > now:  # sent before the clock was set back: what was sent is not sent again
        following = schedule.next_after(anchor)
    else:
        following = schedule.next_after(schedule.latest_slot(anchor, now))
    return following or schedule.next_after(last_slot or LONG_AGO)


def turn(schedule: BaseSchedule, due: datetime, now: datetime) -> Turn:
    """Return what an entry that waits for the slot `due` does at `now`, not before it.

    However many slots were missed, it is the latest one that is sent for.
    """
    slot = schedule.latest_slot(due, now)
    return Turn(slot, schedule.next_after(slot))
