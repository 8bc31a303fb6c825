"""Intervals and single moments: grids that do not drift, rounding, values, mistakes."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from djqueue.schedules import clocked, crontab, maybe_schedule, schedule

OSLO = ZoneInfo("Europe/Oslo")
NOON = datetime(2026, 1, 1, 12, 0, 7, tzinfo=UTC)


def test_the_next_slot_is_one_interval_later() -> None:
    assert schedule(10).next_after(NOON) == NOON + timedelta(seconds=10)
    assert schedule(timedelta(hours=3)).next_after(NOON) == NOON + timedelta(hours=3)
    assert schedule(0.25).next_after(NOON) == NOON + timedelta(milliseconds=250)


def test_an_interval_is_time_that_passes_also_when_the_clocks_change() -> None:
    evening = datetime(2026, 10, 24, 23, 0, tzinfo=OSLO)
    later = schedule(timedelta(hours=12)).next_after(evening)
    assert later - evening == timedelta(hours=12)
    assert later.astimezone(OSLO).hour == 10


def test_the_latest_slot_stays_on_the_grid() -> None:
    every = schedule(10)
    assert every.latest_slot(NOON, NOON + timedelta(seconds=9)) == NOON
    assert every.latest_slot(NOON, NOON + timedelta(seconds=10)) == NOON + timedelta(seconds=10)
    assert every.latest_slot(NOON, NOON + timedelta(days=3650, seconds=19)) == NOON + timedelta(
        days=3650, seconds=10
    )


def test_an_interval_begins_where_it_is_told_to() -> None:
    assert schedule(3600).first_from(NOON) == NOON
    assert schedule(3600, relative=True).first_from(NOON) == datetime(2026, 1, 1, 13, tzinfo=UTC)


@pytest.mark.parametrize(
    ("run_every", "expected"),
    [
        (timedelta(hours=2), datetime(2026, 1, 1, 15, 0, tzinfo=OSLO)),
        (timedelta(minutes=30), datetime(2026, 1, 1, 13, 30, tzinfo=OSLO)),
        (timedelta(days=1), datetime(2026, 1, 2, 0, 0, tzinfo=OSLO)),
        (timedelta(seconds=10), datetime(2026, 1, 1, 13, 0, 17, tzinfo=OSLO)),
    ],
)
def test_a_relative_interval_is_rounded_down_on_the_wall_clock(
    run_every: timedelta, expected: datetime
) -> None:
    assert schedule(run_every, relative=True).next_after(NOON) == expected


def test_relative_days_stay_at_midnight_when_the_clocks_change() -> None:
    daily = schedule(timedelta(days=1), relative=True)
    slots = daily.upcoming(datetime(2026, 10, 23, 5, tzinfo=OSLO), 4)
    local = [slot.astimezone(OSLO) for slot in slots]
    assert [(slot.day, slot.hour) for slot in local] == [(24, 0), (25, 0), (26, 0), (27, 0)]
    first = slots[0]
    assert daily.latest_slot(first, first + timedelta(days=3)) == slots[2]
    assert daily.latest_slot(first, first + timedelta(days=3, hours=1)) == slots[3]
    spring = datetime(2026, 3, 28, 0, tzinfo=OSLO)
    assert daily.latest_slot(spring, datetime(2026, 3, 30, 0, tzinfo=OSLO)) == datetime(
        2026, 3, 30, tzinfo=OSLO
    )


@pytest.mark.parametrize("zone", ["Europe/Oslo", "Australia/Lord_Howe", "Asia/Kathmandu"])
@pytest.mark.parametrize("run_every", [timedelta(hours=1), timedelta(minutes=20), timedelta(minutes=90)])
def test_a_relative_interval_always_moves_on(
    zone: str, run_every: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = schedule(run_every, relative=True)
    monkeypatch.setattr(every, "tz", ZoneInfo(zone))
    moment = datetime(2026, 4, 3, 0, 13, tzinfo=UTC)
    for _ in range(300):
        following = every.next_after(moment)
        assert timedelta(0) < following - moment <= run_every
        moment = following


@pytest.mark.parametrize(
    ("value", "phrase"),
    [
        (schedule(10), "every 10 seconds"),
        (schedule(1), "every second"),
        (schedule(0.5), "every 0.5 seconds"),
        (schedule(60), "every minute"),
        (schedule(5400), "every 90 minutes"),
        (schedule(timedelta(days=7)), "every 7 days"),
        (schedule(timedelta(days=1), relative=True), "every day at midnight Europe/Oslo"),
        (schedule(7200, relative=True), "every 2 hours on full hours Europe/Oslo"),
        (clocked(datetime(2030, 1, 31, 12, tzinfo=UTC)), "once at 2030-01-31 13:00:00 Europe/Oslo"),
    ],
)
def test_it_says_itself_in_plain_words(value: Any, phrase: str) -> None:
    assert value.describe() == phrase


@pytest.mark.parametrize("given", [0, -1, timedelta(0), timedelta(seconds=-5)])
def test_an_interval_of_nothing_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="longer than 0"):
        schedule(given)


@pytest.mark.parametrize("given", ["10", None, True, object()])
def test_what_is_no_schedule_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="number of seconds, a timedelta or a schedule"):
        maybe_schedule(given)


def test_what_people_write_becomes_a_schedule() -> None:
    assert maybe_schedule(30) == schedule(30)
    assert maybe_schedule(timedelta(minutes=1), relative=True) == schedule(60, relative=True)
    given = crontab(minute=0)
    assert maybe_schedule(given) is given


def test_intervals_are_values() -> None:
    assert schedule(60) == schedule(timedelta(minutes=1))
    assert schedule(60) != schedule(60, relative=True)
    assert schedule(60) != crontab()
    assert hash(schedule(60)) == hash(schedule(60.0))
    assert copy.copy(schedule(60, relative=True)) == schedule(60, relative=True)
    assert repr(schedule(60)) == "<freq: minute>"


def test_is_due_tells_when_to_ask_again() -> None:
    every = schedule(60, nowfun=lambda: NOON)
    assert every.is_due(NOON - timedelta(seconds=61)) == (True, 60.0)
    assert every.is_due(NOON - timedelta(seconds=20)) == (False, 40.0)
    assert every.remaining_estimate(NOON) == timedelta(seconds=60)


def test_a_clocked_moment_comes_once() -> None:
    once = clocked(NOON)
    assert once.next_after(NOON - timedelta(days=1)) == NOON
    assert once.next_after(NOON) is None
    assert once.first_from(NOON) == NOON
    assert once.upcoming(NOON - timedelta(days=1), 5) == [NOON]
    assert once.latest_slot(NOON, NOON + timedelta(days=9)) == NOON
    assert clocked(NOON, nowfun=lambda: NOON).is_due(NOON - timedelta(seconds=1)) == (True, float("inf"))
    assert copy.copy(once) == once


def test_a_clocked_moment_must_be_a_datetime() -> None:
    with pytest.raises(TypeError, match="needs a datetime"):
        clocked("2030-01-01")  # type: ignore[arg-type]
