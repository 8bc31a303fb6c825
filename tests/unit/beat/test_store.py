"""Beat's transactions: each slot taken once, whatever runs beside, fails, or comes late."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, OperationalError, connection

from djqueue import exceptions
from djqueue.schedules import clocked, crontab, schedule
from djqueue_beat.entries import read_entries
from djqueue_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
)
from djqueue_beat.store import MOST_ERRORS, Report, Store, slot_id
from tests.unit.beat.rows import periodic_task, saved

pytestmark = pytest.mark.django_db

NOON = datetime(2030, 5, 1, 12, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


class Bench:
    """A store with a clock that the test moves, and a sender that remembers or fails."""

    def __init__(self) -> None:
        self.now = NOON
        self.sent: list[tuple[str, str, datetime]] = []
        self.failing: dict[str, Exception] = {}
        self.store = Store(clock=lambda: self.now, send=self.send)

    def send(self, row: PeriodicTask, task_id: str, slot: datetime) -> str:
        if row.name in self.failing:
            raise self.failing[row.name]
        self.sent.append((row.name, task_id, slot))
        return task_id

    def slots(self) -> list[datetime]:
        return [slot for _, _, slot in self.sent]

    def take_at(self, now: datetime) -> list[Report]:
        self.now = now
        return self.store.take_due()


class Clock:
    """A clock that stands until it is set."""

    moment = NOON

    def __call__(self) -> datetime:
        return self.moment


@pytest.fixture
def bench() -> Bench:
    return Bench()


def fresh(row: PeriodicTask) -> PeriodicTask:
    return PeriodicTask.objects.get(pk=row.pk)


# Slots


def test_nothing_is_sent_before_its_time(bench: Bench) -> None:
    periodic_task(next_run_at=NOON + SECOND)
    assert bench.take_at(NOON) == []
    assert bench.sent == []
    assert bench.store.next_slot() == NOON + SECOND


def test_a_due_slot_is_sent_for_and_the_next_one_is_waited_for(bench: Bench) -> None:
    row = periodic_task(interval=10, next_run_at=NOON)
    (report,) = bench.take_at(NOON + 3 * SECOND)
    assert bench.sent == [(row.name, slot_id(row, NOON), NOON)]
    assert report == Report(row.name, row.task, NOON, slot=NOON, task_id=slot_id(row, NOON))
    row = fresh(row)
    assert row.next_run_at == NOON + 10 * SECOND
    assert (row.last_slot, row.last_run_at, row.total_run_count) == (NOON, NOON + 3 * SECOND, 1)
    assert bench.take_at(NOON + 9 * SECOND) == []


def test_lateness_does_not_add_up(bench: Bench) -> None:
    periodic_task(interval=10, next_run_at=NOON)
    for number in range(5):
        bench.take_at(NOON + number * 10 * SECOND + number * SECOND)
    assert bench.slots() == [NOON + number * 10 * SECOND for number in range(5)]


def test_of_many_missed_slots_one_is_made_up_for(bench: Bench) -> None:
    periodic_task(name="often", interval=10, next_run_at=NOON)
    periodic_task(name="hourly", crontab="0 * * * *", next_run_at=NOON)
    periodic_task(name="daily", crontab="0 14 * * *", next_run_at=NOON)
    bench.take_at(NOON + 4 * HOUR + 35 * MINUTE + 7 * SECOND)
    assert {name: slot - NOON for name, _, slot in bench.sent} == {
        "often": 4 * HOUR + 35 * MINUTE,
        "hourly": 4 * HOUR,
        "daily": timedelta(0),
    }
    assert bench.take_at(bench.now) == []


def test_a_clock_that_goes_back_repeats_no_slot(bench: Bench) -> None:
    row = periodic_task(interval=10, next_run_at=NOON)
    bench.take_at(NOON)
    assert bench.take_at(NOON - HOUR) == []
    assert fresh(row).next_run_at == NOON + 10 * SECOND


def test_the_id_of_a_slot_depends_on_entry_and_slot_only() -> None:
    one, other = periodic_task(), periodic_task()
    assert slot_id(one, NOON) == slot_id(fresh(one), NOON)
    assert len({slot_id(one, NOON), slot_id(other, NOON), slot_id(one, NOON + SECOND)}) == 3


def test_an_entry_that_is_switched_off_is_left_alone(bench: Bench) -> None:
    row = periodic_task(next_run_at=NOON)
    PeriodicTask.objects.filter(pk=row.pk).update(enabled=False)
    assert bench.take_at(NOON + HOUR) == []


def test_once_only_is_switched_off_after_its_run(bench: Bench) -> None:
    row = periodic_task(one_off=True, next_run_at=NOON)
    bench.take_at(NOON)
    row = fresh(row)
    assert (row.enabled, row.next_run_at, row.total_run_count) == (False, None, 0)
    assert row.last_run_at == NOON


def test_a_single_moment_is_sent_once(bench: Bench) -> None:
    moment = saved(ClockedSchedule.from_schedule(clocked(NOON)))
    row = periodic_task(clocked=moment, one_off=True)
    bench.take_at(NOON + HOUR)
    assert bench.slots() == [NOON]
    assert not fresh(row).enabled


def test_an_entry_past_its_end_is_switched_off_unsent(bench: Bench) -> None:
    row = periodic_task(expires=NOON, next_run_at=NOON)
    (report,) = bench.take_at(NOON)
    assert (report.switched_off, report.error, bench.sent) == (True, "", [])
    assert not fresh(row).enabled


def test_no_more_than_a_batch_is_taken_at_once() -> None:
    bench = Bench()
    store = Store(clock=lambda: NOON, send=bench.send, batch=3)
    for _ in range(5):
        periodic_task(next_run_at=NOON)
    assert [len(store.take_due()) for _ in range(3)] == [3, 2, 0]


def test_the_longest_waiting_are_taken_first(bench: Bench) -> None:
    for name, late in (("b", 2), ("c", 1), ("a", 3)):
        periodic_task(name=name, interval=3600, next_run_at=NOON - late * SECOND)
    bench.take_at(NOON)
    assert [name for name, _, _ in bench.sent] == ["a", "b", "c"]


# What goes wrong


def test_a_broken_entry_stops_no_other(bench: Bench) -> None:
    broken = periodic_task(name="broken", next_run_at=NOON)
    periodic_task(name="fine", next_run_at=NOON)
    bench.failing["broken"] = ValueError("args is not JSON")
    reports = {report.entry: report for report in bench.take_at(NOON)}
    assert reports["broken"].error == "args is not JSON"
    assert [name for name, _, _ in bench.sent] == ["fine"]
    row = fresh(broken)
    assert (row.errors, row.last_error, row.enabled) == (1, "args is not JSON", True)
    assert (row.next_run_at, row.last_run_at, row.total_run_count) == (NOON + 10 * SECOND, None, 0)


def test_an_entry_that_fails_again_and_again_is_switched_off(bench: Bench) -> None:
    row = periodic_task(name="broken", next_run_at=NOON)
    bench.failing["broken"] = ValueError("no")
    for number in range(MOST_ERRORS):
        (report,) = bench.take_at(NOON + number * 10 * SECOND)
        assert report.switched_off == (number == MOST_ERRORS - 1)
    row = fresh(row)
    assert (row.enabled, row.last_error, row.errors) == (False, "no", MOST_ERRORS)
    row.enabled = True
    row.save()
    assert fresh(row).errors == 0


def test_a_run_that_works_ends_the_count_of_errors(bench: Bench) -> None:
    row = periodic_task(name="shaky", next_run_at=NOON)
    bench.failing["shaky"] = ValueError("no")
    bench.take_at(NOON)
    del bench.failing["shaky"]
    bench.take_at(NOON + 10 * SECOND)
    assert (fresh(row).errors, fresh(row).last_error) == (0, "")


def test_a_database_error_of_one_message_is_undone_for_that_entry_only(bench: Bench) -> None:
    periodic_task(name="broken", next_run_at=NOON)
    periodic_task(name="fine", next_run_at=NOON)
    bench.failing["broken"] = IntegrityError("too long")
    bench.take_at(NOON)
    assert [name for name, _, _ in bench.sent] == ["fine"]


@pytest.mark.parametrize("error", [OperationalError("gone"), exceptions.OperationalError("gone")])
def test_while_broker_or_database_is_away_no_slot_is_used_up(bench: Bench, error: Exception) -> None:
    first = periodic_task(name="first", next_run_at=NOON - SECOND)
    second = periodic_task(name="second", next_run_at=NOON)
    bench.failing["second"] = error
    with pytest.raises(exceptions.OperationalError, match="gone"):
        bench.take_at(NOON)
    assert (fresh(first).next_run_at, fresh(second).next_run_at) == (NOON - SECOND, NOON)
    assert fresh(second).errors == 0
    del bench.failing["second"]
    bench.take_at(NOON)
    assert set(bench.slots()[1:]) == {NOON - SECOND, NOON}


def test_an_entry_whose_schedule_cannot_be_read_is_switched_off_with_the_reason(bench: Bench) -> None:
    row = periodic_task(crontab="0 * * * *", next_run_at=NOON)
    CrontabSchedule.objects.update(minute="99")
    (report,) = bench.take_at(NOON)
    assert report.switched_off
    assert "99 is outside of 0 to 59" in fresh(row).last_error


# Plans


def test_a_schedule_changed_in_bulk_is_planned_anew(bench: Bench) -> None:
    row = periodic_task(interval=86400, next_run_at=NOON + 20 * HOUR)
    IntervalSchedule.objects.update(every=60, period="seconds")
    assert bench.store.plan_changed() == (1, [])
    assert fresh(row).next_run_at == NOON + 60 * SECOND


def test_rows_made_in_bulk_are_planned(bench: Bench) -> None:
    interval = saved(IntervalSchedule.from_schedule(schedule(30)))
    PeriodicTask.objects.bulk_create(
        [PeriodicTask(name=name, task="t", interval=interval) for name in ("a", "b")]
    )
    bench.store.plan_changed()
    assert set(PeriodicTask.objects.values_list("next_run_at", flat=True)) == {NOON + 30 * SECOND}


def test_a_plan_in_hand_is_kept(bench: Bench) -> None:
    row = periodic_task(next_run_at=NOON - HOUR)
    bench.store.plan_changed()
    assert fresh(row).next_run_at == NOON - HOUR


def test_what_cannot_be_planned_is_switched_off(bench: Bench) -> None:
    row = periodic_task(crontab="0 * * * *")
    other = periodic_task(next_run_at=NOON)
    CrontabSchedule.objects.update(day_of_week="8")
    enabled, (report,) = bench.store.plan_changed()
    assert (enabled, report.entry, report.switched_off) == (2, row.name, True)
    assert not fresh(row).enabled
    assert fresh(other).enabled


# Entries of the settings


def keep(bench: Bench, setting: dict[str, Any]) -> list[str]:
    return bench.store.keep_entries(read_entries(setting, with_clean_up=False))


REPORT = {"task": "shop.tasks.report", "schedule": crontab(minute=0, hour=7), "args": [1]}


def test_entries_of_the_settings_become_rows(bench: Bench) -> None:
    keep(bench, {"report": REPORT, "pulse": {"task": "t", "schedule": 30, "options": {"queue": "slow"}}})
    report = PeriodicTask.objects.get(name="report")
    assert (report.task, report.args, report.from_settings) == ("shop.tasks.report", "[1]", True)
    assert report.in_words == "every day at 07:00 Europe/Oslo"
    assert report.next_run_at is not None
    assert PeriodicTask.objects.get(name="pulse").queue == "slow"


def test_what_has_not_changed_is_left_alone(bench: Bench) -> None:
    keep(bench, {"report": REPORT})
    row = PeriodicTask.objects.get(name="report")
    PeriodicTask.objects.filter(pk=row.pk).update(next_run_at=NOON, total_run_count=3)
    keep(bench, {"report": dict(REPORT)})
    again = fresh(row)
    assert (again.next_run_at, again.total_run_count, again.date_changed) == (NOON, 3, row.date_changed)


def test_a_changed_entry_changes_its_row(bench: Bench) -> None:
    keep(bench, {"report": REPORT})
    row = PeriodicTask.objects.get(name="report")
    keep(bench, {"report": REPORT | {"schedule": 60, "args": []}})
    again = fresh(row)
    assert (again.in_words, again.args, again.crontab) == ("every minute", "[]", None)


def test_an_entry_that_an_operator_switched_off_stays_off(bench: Bench) -> None:
    keep(bench, {"report": REPORT})
    row = PeriodicTask.objects.get(name="report")
    row.enabled = False
    row.save()
    keep(bench, {"report": REPORT | {"args": [2]}})
    assert (fresh(row).enabled, fresh(row).args) == (False, "[2]")


def test_an_entry_may_begin_switched_off(bench: Bench) -> None:
    keep(bench, {"report": REPORT | {"enabled": False}})
    assert not PeriodicTask.objects.get(name="report").enabled


def test_entries_that_are_gone_from_the_settings_go_and_others_stay(bench: Bench) -> None:
    own = periodic_task(name="made in the admin")
    keep(bench, {"report": REPORT, "old": REPORT, "broken later": REPORT})
    assert keep(bench, {"report": REPORT, "broken later": {}}) == ["old"]
    assert set(PeriodicTask.objects.values_list("name", flat=True)) == {"report", "broken later", own.name}


def test_an_entry_that_its_row_refuses_becomes_a_mistake(bench: Bench) -> None:
    moment = {"task": "t", "schedule": clocked(NOON), "one_off": False}
    entries = read_entries({"moment": moment, "report": REPORT}, with_clean_up=False)
    bench.store.keep_entries(entries)
    assert "once only" in entries.mistakes["moment"]
    assert PeriodicTask.objects.get().name == "report"


# Many beats


def run_together(count: int, work: Callable[[], None]) -> None:
    """Run `work` in so many threads, each with a connection of its own."""
    errors: list[BaseException] = []

    def thread() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=thread) for _ in range(count)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert errors == []


@pytest.mark.django_db(transaction=True)
def test_three_beats_send_each_slot_once() -> None:
    for number in range(20):
        periodic_task(name=f"entry {number}", interval=2, next_run_at=NOON)

    def send(row: PeriodicTask, task_id: str, slot: datetime) -> str:
        Group.objects.create(name=f"{row.pk} {slot:%H:%M:%S} {task_id}")  # the message: a row beside ours
        return task_id

    def beat() -> None:
        clock = Clock()
        store = Store(clock=clock, send=send, batch=7)
        for _ in range(6):
            while store.take_due():
                pass
            clock.moment += 2 * SECOND

    run_together(3, beat)
    # A slot may be made up for by a later one when another beat's clock is ahead; none is sent twice.
    sent = [name.rsplit(" ", 1)[0] for name in Group.objects.values_list("name", flat=True)]
    assert len(sent) == len(set(sent))
    assert {name for name in sent if name.endswith("12:00:10")} == {
        f"{row.pk} 12:00:10" for row in PeriodicTask.objects.all()
    }
    assert all(row.errors == 0 for row in PeriodicTask.objects.all())


@pytest.mark.django_db(transaction=True)
def test_what_is_undone_takes_its_messages_along() -> None:
    row = periodic_task(next_run_at=NOON)

    def die_after_sending(row: PeriodicTask, task_id: str, slot: datetime) -> str:
        Group.objects.create(name=task_id)
        raise SystemExit

    with pytest.raises(SystemExit):
        Store(clock=lambda: NOON, send=die_after_sending).take_due()
    assert Group.objects.count() == 0
    assert fresh(row).next_run_at == NOON


@pytest.mark.django_db(transaction=True)
def test_two_beats_that_start_together_keep_each_entry_once() -> None:
    entries = {f"entry {number}": REPORT for number in range(5)}

    def start() -> None:
        keep(Bench(), entries)

    run_together(2, start)
    assert PeriodicTask.objects.count() == 5
    assert CrontabSchedule.objects.count() == 1
    assert PeriodicTasks.last_change() is not None
