"""A real `runbeat`, and beat inside a real worker: what operators and staff see.

Each test starts the command, changes rows or settings, and waits for messages, results and log lines.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from djqueue.models import Message
from djqueue_beat.models import IntervalSchedule, PeriodicTask
from tests.project import tasks
from tests.support.ledger import Ledger
from tests.support.processes import Command, Processes
from tests.support.waiting import wait_until
from tests.unit.beat.rows import periodic_task

WAIT = 20.0


def start(processes: Processes, *flags: str, settings: dict[str, Any] | None = None) -> Command:
    command = processes.start("runbeat", *flags, settings=settings)
    command.wait_for_line("djq.beat.started")
    return command


def pulse(**entry: Any) -> dict[str, Any]:
    """Settings with one entry, every second."""
    return {"BEAT_SCHEDULE": {"pulse": {"task": tasks.add.name, "schedule": 1, "args": [1, 2], **entry}}}


def sent_by(name: str) -> list[str]:
    """The slots that were sent for, as the messages in the queue say."""
    headers = [json.loads(text) for text in Message.objects.values_list("headers", flat=True)]
    return [one["periodic_task_slot"] for one in headers if one.get("periodic_task_name") == name]


def test_entries_of_the_settings_are_sent_on_time(processes: Processes) -> None:
    beat = start(processes, settings=pulse())
    wait_until(lambda: len(sent_by("pulse")) >= 3, WAIT, "for three slots")
    assert beat.wait_for_line(
        r'djq\.tick\.sent schedule="pulse" task=tests\.project\.tasks\.add id=\S+ slot=\S+'
    )
    assert "looks every:" in beat.log()
    assert beat.terminate() == 0
    assert "djq.beat.stopping signal=SIGTERM" in beat.log()
    assert max(Counter(sent_by("pulse")).values()) == 1
    assert PeriodicTask.objects.get(name="pulse").total_run_count == len(sent_by("pulse"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_it_ends_cleanly_however_it_is_asked(processes: Processes, number: signal.Signals) -> None:
    beat = start(processes)
    beat.signal(number)
    assert beat.wait(5) == 0
    assert f"signal={number.name}" in beat.log()
    assert "Traceback" not in beat.log()


def test_a_row_made_while_it_runs_is_sent_and_one_switched_off_is_not(processes: Processes) -> None:
    start(processes, "--max-interval", "0.2")
    row = periodic_task(name="new", interval=1)
    wait_until(lambda: sent_by("new"), WAIT, "for the new entry")
    row.enabled = False
    row.save()
    other = periodic_task(name="other", interval=1)
    count = len(sent_by("new"))
    wait_until(lambda: len(sent_by("other")) >= 2, WAIT, "for two slots of the other entry")
    assert len(sent_by("new")) <= count + 1  # one may have been on its way
    other.delete()


def test_a_changed_interval_takes_effect_at_once(processes: Processes) -> None:
    periodic_task(name="slow", interval=86400)
    start(processes, "--max-interval", "0.2")
    interval = IntervalSchedule.objects.get()
    interval.every, interval.period = 1, "seconds"
    interval.save()
    wait_until(lambda: len(sent_by("slow")) >= 2, WAIT, "for the entry to become quick")


def test_a_broken_entry_is_told_and_stops_no_other(processes: Processes) -> None:
    broken = periodic_task(name="broken", interval=1)
    PeriodicTask.objects.filter(pk=broken.pk).update(args="[1")
    periodic_task(name="fine", interval=1)
    beat = start(processes)
    wait_until(lambda: len(sent_by("fine")) >= 2, WAIT, "for the other entry")
    beat.wait_for_line('djq.tick.broken schedule="broken" error=args is not JSON')
    beat.wait_for_line('djq.tick.broken schedule="broken" .*; switched off', within=WAIT)
    broken.refresh_from_db()
    assert not broken.enabled
    assert "args is not JSON" in broken.last_error


def test_many_missed_slots_are_made_up_for_by_one(processes: Processes) -> None:
    beat = start(processes, settings=pulse(schedule=3600))
    beat.terminate()
    row = PeriodicTask.objects.get(name="pulse")
    assert row.next_run_at is not None
    PeriodicTask.objects.update(next_run_at=row.next_run_at.replace(year=row.next_run_at.year - 1))
    again = start(processes, settings=pulse(schedule=3600))
    again.wait_for_line(r'djq\.tick\.caught_up schedule="pulse" missed_from=')
    assert len(sent_by("pulse")) == 1
    again.terminate()


def test_a_worker_may_carry_the_beat_and_run_what_it_sends(processes: Processes, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    worker = processes.start(
        "runworker", "-c", "1", "--beat", settings=pulse(task=tasks.tick.name, args=[str(ledger.path)])
    )
    wait_until(lambda: len(ledger.ids("tick")) >= 3, WAIT, "for three ticks to have run")
    assert worker.terminate() == 0
    assert "djq.tick.sent" in worker.log()


def test_it_waits_for_a_database_that_is_not_there_yet(processes: Processes, tmp_path: Path) -> None:
    beat = processes.start("runbeat", "--max-interval", "0.2", DJQUEUE_TEST_DIR=str(tmp_path))
    beat.wait_for_line("djq.beat.database_lost error=.*no such table")
    # As if somebody ran `migrate` now: the file appears with all its tables. SQLite makes the copy itself: to
    # open and close the file by other means would drop the locks that this process holds on it.
    copy = tmp_path / "copy"
    with connection.cursor() as cursor:
        cursor.execute("VACUUM INTO %s", [str(copy)])
    os.replace(copy, tmp_path / "default.sqlite3")
    assert beat.exit_status is None
    beat.terminate()


def test_wrong_flags_are_refused_with_advice(processes: Processes) -> None:
    for flags, says in (
        (("--loglevel", "LOUD"), "give one of DEBUG"),
        (("--max-interval", "0"), "give seconds above 0"),
    ):
        beat = processes.start("runbeat", *flags)
        assert beat.wait(15) == 1
        assert says in beat.log()


def test_a_wrong_entry_of_the_settings_is_told_before_anything_starts(processes: Processes) -> None:
    beat = processes.start("runbeat", settings={"BEAT_SCHEDULE": {"bad": {"task": "t"}}})
    assert beat.wait(15) == 1
    assert "djqueue_beat.E001" in beat.log()
