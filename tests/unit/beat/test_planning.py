"""The sums of beat: the slot a new entry waits for, and the slot a due one stands for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from djqueue.schedules import clocked, crontab, schedule
from djqueue_beat.planning import fingerprint, first_slot, turn

NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
EVERY_TEN = schedule(600)
HOURLY = crontab(minute=0, tz=ZoneInfo("UTC"))


def test_a_new_interval_first_runs_after_one_full_interval() -> None:
    assert first_slot(EVERY_TEN, NOON, None, None) == NOON + 10 * MINUTE


def test_a_new_crontab_waits_for_its_next_time() -> None:
    assert first_slot(HOURLY, NOON + MINUTE, None, None) == NOON + HOUR


def test_nothing_runs_before_its_start_time() -> None:
    start = NOON + 7 * MINUTE
    assert first_slot(EVERY_TEN, NOON, start, None) == start
    assert first_slot(HOURLY, NOON, start, None) == NOON + HOUR
    assert first_slot(HOURLY, NOON, NOON + HOUR, None) == NOON + HOUR


def test_intervals_are_counted_from_a_start_time_that_has_passed() -> None:
    assert first_slot(EVERY_TEN, NOON, NOON - 23 * MINUTE, None) == NOON + 7 * MINUTE


def test_a_changed_interval_is_counted_from_the_last_slot() -> None:
    assert first_slot(EVERY_TEN, NOON, None, NOON - 4 * MINUTE) == NOON + 6 * MINUTE
    assert first_slot(EVERY_TEN, NOON, None, NOON - timedelta(days=30, minutes=4)) == NOON + 6 * MINUTE


def test_after_the_clock_went_back_no_slot_is_planned_twice() -> None:
    assert first_slot(HOURLY, NOON, None, NOON + 2 * HOUR) == NOON + 3 * HOUR
    assert first_slot(clocked(NOON + HOUR), NOON, None, NOON + HOUR) is None


def test_a_clock_that_was_days_ahead_does_not_stop_an_entry() -> None:
    assert first_slot(EVERY_TEN, NOON, None, NOON + timedelta(days=400)) == NOON + 10 * MINUTE


def test_a_moment_that_has_just_gone_by_is_still_made_up_for_once() -> None:
    moment = clocked(NOON - MINUTE)
    assert first_slot(moment, NOON, None, None) == NOON - MINUTE
    assert first_slot(moment, NOON, None, NOON - MINUTE) is None


def test_a_due_entry_takes_its_slot_and_waits_for_the_next() -> None:
    now = NOON + timedelta(seconds=3)
    assert turn(EVERY_TEN, NOON, now).slot == NOON
    assert turn(EVERY_TEN, NOON, now).following == NOON + 10 * MINUTE
    assert turn(HOURLY, NOON, now).following == NOON + HOUR


def test_of_many_missed_slots_the_latest_is_taken() -> None:
    now = NOON + timedelta(days=4, minutes=35)
    assert turn(EVERY_TEN, NOON, now).slot == NOON + timedelta(days=4, minutes=30)
    assert turn(HOURLY, NOON, now).slot == NOON + timedelta(days=4)
    assert turn(HOURLY, NOON, now).following == NOON + timedelta(days=4, hours=1)


def test_a_single_moment_has_no_following_slot() -> None:
    assert turn(clocked(NOON), NOON, NOON + HOUR).following is None


def test_the_fingerprint_changes_with_everything_that_matters() -> None:
    different = {
        fingerprint(EVERY_TEN, None),
        fingerprint(schedule(601), None),
        fingerprint(schedule(600, relative=True), None),
        fingerprint(EVERY_TEN, NOON),
        fingerprint(HOURLY, None),
        fingerprint(crontab(minute=0, tz=ZoneInfo("Europe/Oslo")), None),
    }
    assert len(different) == 6
    assert fingerprint(schedule(600), None) == fingerprint(EVERY_TEN, None)
