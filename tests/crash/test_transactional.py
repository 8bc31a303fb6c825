"""`ack="transactional"`: whoever is killed whenever, each task leaves its writes exactly once.

Tasks write a row each and are killed, or their worker is, before they write, after it, when their result is
there, and after the commit; another task follows each. Delivery promise D08, on every database.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction

from djqueue.messaging import brokers
from djqueue.models import DeadLetter
from djqueue_results.models import TaskResult
from tests.project import tasks
from tests.support.ledger import STARTED, Ledger
from tests.support.processes import Command, Processes
from tests.support.waiting import wait_until

WAIT = 60.0
POINTS = ("", "before", "written", "ending", "committed")
every_database = pytest.mark.parametrize("database", ["sqlite", "postgresql", "mariadb"], indirect=True)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


@pytest.fixture(autouse=True)
def no_groups(database: str) -> None:
    Group.objects.all().delete()


def start(processes: Processes, *flags: str) -> Command:
    command = processes.start("runworker", "-c", "2", "-n", "one@%h", *flags)
    command.wait_for_line("djq.worker.ready", within=30)
    return command


def rows() -> Counter[str]:
    """Return how many rows each task has left."""
    return Counter(name.split()[0] for name in Group.objects.values_list("name", flat=True))


@every_database
def test_each_task_leaves_its_writes_once_whoever_is_killed_whenever(
    processes: Processes, ledger: Ledger
) -> None:
    sent = []
    for whom in ("child", "worker"):
        for point in POINTS:
            for _ in range(2 if whom == "child" else 1):
                after = tasks.write_once.si(str(ledger.path)).set(task_id=f"after-{len(sent)}")
                sent.append(tasks.write_once.apply_async((str(ledger.path), point, whom), link=after).id)
    expected = Counter([*sent, *(f"after-{number}" for number in range(len(sent)))])
    worker = start(processes)

    def is_done() -> bool:
        nonlocal worker
        if worker.exit_status is not None:
            worker = start(processes)
        return brokers.broker().size("default") == 0 and sum(rows().values()) >= len(expected)

    wait_until(is_done, WAIT, "every task to leave a row")
    assert worker.terminate() == 0
    assert rows() == expected
    assert brokers.broker().size("default") == 0
    assert not DeadLetter.objects.exists()
    assert Counter(TaskResult.objects.values_list("status", flat=True)) == {"SUCCESS": len(expected)}
    # The kills did happen.
    assert len(ledger.ids(STARTED)) > len(expected)


@every_database
def test_what_fails_leaves_nothing_but_its_failure(processes: Processes) -> None:
    start(processes)
    failed, swallowed = tasks.write_and.delay("fail"), tasks.write_and.delay("nothing")
    with pytest.raises(tasks.Expected):
        failed.get(timeout=WAIT)
    swallowed.get(timeout=WAIT)
    assert rows() == {swallowed.id: 1}
    broken = tasks.write_and.delay("swallow")
    with pytest.raises(Exception, match="transaction"):
        broken.get(timeout=WAIT)
    assert rows() == {swallowed.id: 1}
    wait_until(lambda: brokers.broker().size("default") == 0, WAIT, "the queue to be empty")


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_worker_that_slept_beyond_its_lease_commits_nothing(processes: Processes, ledger: Ledger) -> None:
    """Given a task whose worker is stopped while it waits for a row, others run it; it finds itself late."""
    options: dict[str, Any] = {"BROKER_TRANSPORT_OPTIONS": {"lease": 3}}
    Group.objects.create(name="contended")
    first = processes.start("runworker", "-c", "1", "-n", "first@%h", settings=options)
    first.wait_for_line("djq.worker.ready", within=30)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE auth_group IN EXCLUSIVE MODE")
        result = tasks.write_once.apply_async(
            (str(ledger.path),), on_commit=False
        ).id  # beside the transaction
        wait_until(lambda: ledger.ids(STARTED), WAIT, "the task to start")
        first.stop()
    second = processes.start("runworker", "-c", "1", "-n", "second@%h", settings=options)
    wait_until(lambda: rows()[result] == 1, WAIT, "another worker to run it")
    first.cont()
    first.wait_for_line("djq.lease.lost", within=30)
    assert first.terminate() == 0
    assert second.terminate() == 0
    assert rows()[result] == 1
    assert len(ledger.ids(STARTED)) == 2
