"""Crontab schedules: the next slot, time zones, daylight saving, catching up, and Celery as the judge."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery import schedules as celery_schedules
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from djqueue.schedules import crontab

OSLO = ZoneInfo("Europe/Oslo")
UTC_ZONE = ZoneInfo("UTC")


def oslo(*parts: int, fold: int = 0) -> datetime:
    return datetime(*parts, tzinfo=OSLO, fold=fold)  # type: ignore[misc,arg-type]


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


def count_slots(schedule: crontab, start: datetime, end: datetime) -> int:
    slots, moment = 0, schedule.next_after(start)
    while moment <= end:
        slots, moment = slots + 1, schedule.next_after(moment)
    return slots


@pytest.mark.parametrize(
    ("fields", "moment", "expected"),
    [
        ({}, (2026, 3, 1, 12, 0), (2026, 3, 1, 12, 1)),
        ({}, (2026, 3, 1, 12, 0, 59), (2026, 3, 1, 12, 1)),
        ({"minute": "*/15"}, (2026, 3, 1, 12, 45), (2026, 3, 1, 13, 0)),
        ({"minute": 30, "hour": 7}, (2026, 3, 1, 7, 30), (2026, 3, 2, 7, 30)),
        ({"minute": 0, "hour": 0}, (2026, 12, 31, 23, 59, 59), (2027, 1, 1, 0, 0)),
        ({"minute": 30, "hour": 7, "day_of_week": "mon-fri"}, (2026, 11, 20, 8), (2026, 11, 23, 7, 30)),
        ({"minute": 0, "hour": 0, "day_of_month": 31}, (2026, 1, 31, 0), (2026, 3, 31, 0)),
        ({"minute": 0, "hour": 0, "day_of_month": 29, "month_of_year": 2}, (2026, 1, 1), (2028, 2, 29)),
        # both day fields must match: Friday the 13th
        ({"minute": 0, "hour": 0, "day_of_month": 13, "day_of_week": 5}, (2026, 4, 1), (2026, 11, 13)),
        ({"minute": 0, "hour": 0, "day_of_week": "sun"}, (2026, 11, 20), (2026, 11, 22)),
    ],
)
def test_the_next_slot(fields: dict[str, Any], moment: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert crontab(**fields, tz=UTC_ZONE).next_after(utc(*moment)) == utc(*expected)


def test_a_leap_day_on_a_monday_across_a_century_without_one_is_found() -> None:
    rare = crontab(0, 0, day_of_week="mon", day_of_month=29, month_of_year=2, tz=UTC_ZONE)
    assert rare.next_after(utc(2072, 3, 1)) == utc(2112, 2, 29)


def test_without_a_zone_the_wall_clock_of_the_project_counts() -> None:
    slot = crontab(minute=0, hour=7).next_after(utc(2026, 1, 1, 0, 0))
    assert slot == oslo(2026, 1, 1, 7, 0) == utc(2026, 1, 1, 6, 0)
    assert slot.tzinfo is UTC


def test_a_naive_moment_is_wall_clock_time_of_the_schedule() -> None:
    slot = crontab(minute=0, hour=7, tz=OSLO).next_after(datetime(2026, 1, 1, 6, 59))
    assert slot == oslo(2026, 1, 1, 7, 0)


def test_a_time_that_the_clocks_skip_is_shifted_by_the_gap() -> None:
    daily = crontab(minute=30, hour=2, tz=OSLO)
    assert daily.next_after(oslo(2026, 3, 28, 2, 30)) == oslo(2026, 3, 29, 3, 30)
    assert daily.next_after(oslo(2026, 3, 29, 3, 10)) == oslo(2026, 3, 29, 3, 30)
    assert daily.next_after(oslo(2026, 3, 29, 3, 30)) == oslo(2026, 3, 30, 2, 30)


def test_a_shifted_time_does_not_hide_the_ones_that_exist() -> None:
    often = crontab(minute="50,10", hour="2,3", tz=OSLO)
    slots = often.upcoming(oslo(2026, 3, 29, 0, 0), 3)
    assert slots == [oslo(2026, 3, 29, 3, 10), oslo(2026, 3, 29, 3, 50), oslo(2026, 3, 30, 2, 10)]


def test_a_time_that_the_clocks_repeat_is_a_slot_the_first_time_only() -> None:
    daily = crontab(minute=30, hour=2, tz=OSLO)
    first = daily.next_after(oslo(2026, 10, 24, 12, 0))
    assert first == utc(2026, 10, 25, 0, 30)
    assert daily.next_after(oslo(2026, 10, 25, 2, 10, fold=1)) == oslo(2026, 10, 26, 2, 30)


ZONES = [
    "Europe/Oslo",
    "Europe/London",
    "Europe/Lisbon",
    "Europe/Athens",
    "Europe/Chisinau",
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/New_York",
    "America/Chicago",
    "America/Denver",
    "America/Los_Angeles",
    "America/Anchorage",
    "America/St_Johns",
    "America/Halifax",
    "America/Havana",
    "America/Santiago",
    "America/Asuncion",
    "America/Miquelon",
    "America/Nuuk",
    "Asia/Beirut",
    "Asia/Jerusalem",
    "Asia/Tokyo",
    "Asia/Kathmandu",
    "Asia/Tehran",
    "Atlantic/Azores",
    "Australia/Sydney",
    "Australia/Lord_Howe",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "Pacific/Easter",
]


@pytest.mark.parametrize("name", ZONES)
def test_a_year_in_any_zone_has_each_day_once(name: str) -> None:
    zone = ZoneInfo(name)
    start = datetime(2025, 1, 1, 12, tzinfo=zone)
    for hour in (0, 1, 2, 3):
        daily = crontab(minute=30, hour=hour, tz=zone)
        slots = daily.upcoming(start, 365)
        # By wall-clock day: each of the year's days has one slot, none is doubled and none is missing.
        days = [slot.astimezone(zone).date() for slot in slots]
        assert days == [start.date() + timedelta(days=number) for number in range(1, 366)]


@pytest.mark.parametrize("name", ZONES)
def test_the_slots_of_a_year_of_nights_are_the_wall_clock_times_that_came(name: str) -> None:
    zone = ZoneInfo(name)
    nightly = crontab(minute="*/30", hour="0-4", tz=zone)
    start, end = datetime(2025, 1, 1, tzinfo=zone), datetime(2026, 1, 1, tzinfo=zone)
    moment, shown = start.astimezone(UTC), set()
    while moment < end:
        moment += timedelta(minutes=30)
        shown.add(moment.astimezone(zone).replace(tzinfo=None, fold=0))
    assert count_slots(nightly, start, end) == sum(wall.hour <= 4 for wall in shown)


@pytest.mark.parametrize("name", ["Europe/Oslo", "Australia/Lord_Howe", "Pacific/Apia"])
def test_the_next_slot_is_later_and_nothing_lies_between(name: str) -> None:
    zone = ZoneInfo(name)
    schedule = crontab(minute="7,31", hour="0-4", tz=zone)
    for first in (datetime(2011, 12, 28, tzinfo=UTC), datetime(2026, 3, 28, tzinfo=UTC)):
        moment, end = first, first + timedelta(days=4)
        while moment < end:
            slot = schedule.next_after(moment)
            assert slot > moment
            assert schedule.next_after(slot - timedelta(microseconds=1)) == slot
            assert schedule.next_after(moment + (slot - moment) / 2) == slot
            moment += timedelta(minutes=17)


def test_years_of_missed_minutes_are_skipped_at_once() -> None:
    minutely = crontab(tz=UTC_ZONE)
    assert minutely.latest_slot(utc(2001, 1, 1), utc(2026, 1, 1, 0, 0, 30)) == utc(2026, 1, 1)
    yearly = crontab(0, 0, day_of_month=1, month_of_year=3, tz=UTC_ZONE)
    assert yearly.latest_slot(utc(2001, 3, 1), utc(2026, 1, 1)) == utc(2025, 3, 1)
    assert yearly.latest_slot(utc(2025, 3, 1), utc(2026, 1, 1)) == utc(2025, 3, 1)


@given(
    missed=st.integers(0, 400_000),
    fields=st.sampled_from(
        [{}, {"minute": "*/7"}, {"minute": 5, "hour": "1-3"}, {"minute": 0, "hour": 2, "day_of_week": "tue"}]
    ),
)
@hypothesis_settings(max_examples=60, deadline=None)
def test_the_latest_slot_is_the_last_one_of_the_list(missed: int, fields: dict[str, Any]) -> None:
    schedule = crontab(**fields, tz=OSLO)
    first = schedule.next_after(oslo(2026, 10, 24, 12, 0))
    until = first + timedelta(seconds=missed)
    slots = [first]
    while (following := schedule.next_after(slots[-1])) <= until:
        slots.append(following)
    assert schedule.latest_slot(first, until) == slots[-1]


def numbers(least: int, most: int) -> st.SearchStrategy[set[int]]:
    return st.sets(st.integers(least, most), min_size=1, max_size=4)


@given(
    minute=numbers(0, 59) | st.just("*"),
    hour=numbers(0, 23) | st.just("*"),
    day_of_week=numbers(0, 6) | st.just("*"),
    day_of_month=numbers(1, 28) | st.just("*"),
    month_of_year=numbers(1, 12) | st.just("*"),
    moment=st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)),
)
@hypothesis_settings(max_examples=150, deadline=None)
def test_the_next_slot_is_the_one_that_celery_finds(moment: datetime, **fields: Any) -> None:
    start = moment.replace(tzinfo=UTC)
    app = Celery(set_as_current=False)
    theirs = celery_schedules.crontab(**fields, app=app, nowfun=lambda: start)
    expected = start + theirs.remaining_estimate(start)
    assert crontab(**fields, tz=UTC_ZONE).next_after(start) == expected


def test_is_due_answers_as_celery_users_expect() -> None:
    now = utc(2026, 1, 1, 12, 0, 30)
    schedule = crontab(nowfun=lambda: now, tz=UTC_ZONE)
    assert schedule.is_due(utc(2026, 1, 1, 11, 59, 0)) == (True, 30.0)
    assert schedule.is_due(utc(2026, 1, 1, 12, 0, 0)) == (False, 30.0)
    assert schedule.remaining_estimate(utc(2026, 1, 1, 12, 0, 0)) == timedelta(seconds=30)


def test_the_classic_line_has_its_own_order() -> None:
    line = crontab.from_string("30 7 1 jan mon")
    assert line == crontab(minute=30, hour=7, day_of_week="mon", day_of_month=1, month_of_year="jan")
    with pytest.raises(ValueError, match="has 4"):
        crontab.from_string("* * * *")


def test_crontabs_are_values() -> None:
    one, same = crontab(minute="*/15", tz=OSLO), crontab(minute={0, 15, 30, 45}, tz=OSLO)
    assert one == same
    assert hash(one) == hash(same)
    assert one != crontab(minute="*/15", tz=UTC_ZONE)
    assert one != crontab(minute="*/20", tz=OSLO)
    assert copy.copy(one) == one
    assert repr(one) == "<crontab: */15 * * * * (m/h/dM/MY/d)>"
    assert one.minute == {0, 15, 30, 45}
    assert crontab(day_of_week="mon-fri").day_of_week == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("fields", "phrase"),
    [
        ({}, "every minute"),
        ({"minute": "*/15"}, "every 15 minutes"),
        ({"minute": 0}, "every hour on the hour"),
        ({"minute": "5,20"}, "every hour at minutes 5, 20"),
        ({"minute": 0, "hour": "*/2"}, "every 2 hours on the hour, Europe/Oslo"),
        ({"minute": 30, "hour": 7}, "every day at 07:30 Europe/Oslo"),
        ({"minute": 30, "hour": 7, "day_of_week": "mon-fri"}, "every weekday at 07:30 Europe/Oslo"),
        ({"minute": 0, "hour": 8, "day_of_week": "1,5"}, "every Monday and Friday at 08:00 Europe/Oslo"),
        ({"minute": 0, "hour": "8,12"}, "every day at 08:00 and 12:00 Europe/Oslo"),
        (
            {"minute": 0, "hour": 0, "day_of_month": 1, "month_of_year": "jan,jul"},
            "on day 1 of the month at 00:00 in January and July, Europe/Oslo",
        ),
        (
            {"minute": 0, "hour": 4, "day_of_month": "1-7", "day_of_week": "mon"},
            "on days 1-7 of the month that are Mondays at 04:00 Europe/Oslo",
        ),
        (
            {"minute": "*/10", "hour": "8-17", "day_of_week": "mon-fri"},
            "every 10 minutes between 08:00 and 17:59 on weekdays, Europe/Oslo",
        ),
        ({"minute": "*", "hour": "22-2"}, "every minute in hours 0-2, 22, 23 Europe/Oslo"),
    ],
)
def test_it_says_itself_in_plain_words(fields: dict[str, Any], phrase: str) -> None:
    assert crontab(**fields, tz=OSLO).describe() == phrase
