"""SQLite as `startproject` sets it up, where somebody else writes just after each read of ours.

Django begins transactions DEFERRED there: one that reads first and writes later fails at once with "database
is locked" when another process has written in between. Nothing that djqueue does in a process of the
project may do that. Workers take the write lock first; they have tests of their own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.db import connection, transaction

from djqueue import GroupResult, app, chord, control, enqueue_many, group
from djqueue.exceptions import OperationalError
from djqueue.messaging.tables import deadletters
from djqueue.models import DeadLetter
from djqueue_beat.models import IntervalSchedule, PeriodicTask, PeriodicTasks
from tests.project import tasks
from tests.unit.beat.rows import periodic_task

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def rival() -> Iterator[None]:
    """Write to the same file, over a connection of its own, after each SELECT of ours."""
    connection.ensure_connection()
    mode, connection.transaction_mode = connection.transaction_mode, None  # type: ignore[attr-defined]
    connection.connection.execute("PRAGMA journal_mode = wal")
    rival = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    rival.execute("CREATE TABLE IF NOT EXISTS rival (number INTEGER)")
    rival.execute("PRAGMA busy_timeout = 0")

    def write_after_reading(execute: Callable[..., Any], sql: str, *how: Any) -> Any:
        found = execute(sql, *how)
        if sql.lstrip().upper().startswith("SELECT"):
            with suppress(sqlite3.OperationalError):  # we have the lock: nobody else can write
                rival.execute("INSERT INTO rival VALUES (1)")
        return found

    with connection.execute_wrapper(write_after_reading):
        yield
    rival.execute("PRAGMA busy_timeout = 20000")
    rival.execute("DROP TABLE rival")
    rival.close()
    connection.transaction_mode = mode  # type: ignore[attr-defined]


def dead_letter() -> None:
    """Bring a message back that was given up."""
    letter = DeadLetter.objects.create(
        queue="default",
        body=b"[[1, 2], {}, {}]",
        headers='{"id":"a","task":"tests.project.tasks.add"}',
        content_type="application/json",
        content_encoding="utf-8",
        reason="rejected",
    )
    assert deadletters.requeue([letter]) == ([letter], [])


def schedule_changes() -> None:
    """Make a schedule, change it, and delete it."""
    row = periodic_task(name="often")
    row.enabled = False
    row.save()
    PeriodicTasks.update_changed()
    row.delete()
    IntervalSchedule.objects.all().delete()
    assert not PeriodicTask.objects.exists()


def groups() -> None:
    """Keep a group twice, and find it."""
    result = group(tasks.add.s(1, 1), tasks.add.s(2, 2)).delay()
    for _ in range(2):
        result.save()
    assert GroupResult.restore(result.id or "") == result
    result.delete()


def states_from_outside() -> None:
    """Set states for a task, read and forget them."""
    tasks.add.update_state("a", "PROGRESS", {"done": 1})
    app.backend.mark_as_done("a", 1)
    assert app.AsyncResult("a").get(timeout=5) == 1
    app.AsyncResult("a").forget()
    app.backend.cleanup()


DEEDS: dict[str, Callable[[], object]] = {
    "send": lambda: tasks.add.delay(1, 1),
    "send for later": lambda: tasks.add.apply_async((1, 1), countdown=60),
    "send many": lambda: enqueue_many([tasks.add.s(number, 1) for number in range(50)]),
    "send a chord": lambda: chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.total.s()).delay(),
    "keep a group": groups,
    "set states": states_from_outside,
    "revoke": lambda: control.revoke("a"),
    "revoke by stamps": lambda: control.revoke_by_stamped_headers({"customer": "b"}),
    "ping": lambda: control.ping(timeout=0.1),
    "inspect": lambda: control.inspect(timeout=0.1).active(),
    "purge": lambda: control.purge(),
    "requeue a dead letter": dead_letter,
    "change schedules": schedule_changes,
}


@pytest.mark.parametrize("deed", DEEDS)
def test_nothing_fails_because_others_write(deed: str) -> None:
    DEEDS[deed]()


def test_workers_cannot_be_asked_while_a_transaction_keeps_them_from_writing() -> None:
    with transaction.atomic(), pytest.raises(OperationalError, match="Ask outside of it"):
        control.ping(timeout=0.1)
