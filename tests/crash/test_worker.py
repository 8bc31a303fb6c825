"""Kill a child, a whole worker, only its parent, under load: nothing is lost, at most one start too many.

Tasks and producer write to a ledger past everything under test; the checker compares what was accepted with
what ran. Delivery promises W01, W03–W05, W12 and M33 on the database broker.
"""

from __future__ import annotations

import os
import signal
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from django.db import transaction

from djqueue import enqueue_many
from djqueue.exceptions import WorkerLostError
from djqueue.messaging import brokers
from djqueue.models import DeadLetter
from tests.project import tasks
from tests.support import ledger as ledgers
from tests.support import proctree
from tests.support.ledger import Ledger, check
from tests.support.processes import Command, Processes
from tests.support.waiting import wait_until

WAIT = 60.0


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


def start(processes: Processes, name: str = "one") -> Command:
    command = processes.start("runworker", "-c", "2", "-n", f"{name}@%h")
    command.wait_for_line("djq.worker.ready", within=30)
    return command


def send(ledger: Ledger, count: int, seconds: float) -> None:
    """Send `count` recording tasks of `seconds` each."""
    for result in enqueue_many([tasks.record.s(str(ledger.path), seconds) for _ in range(count)]):
        ledger.note(ledgers.ACCEPTED, result.id)


def wait_for_ends(ledger: Ledger, count: int) -> None:
    wait_until(lambda: len(set(ledger.ids(ledgers.ENDED))) >= count, WAIT, f"{count} tasks to end")


def grandchildren(worker: Command) -> list[int]:
    """The children that run tasks: below the nursery."""
    return [pid for nursery in worker.children() for pid in proctree.children(nursery)]


def drained() -> bool:
    return brokers.broker().size("default") == 0


def test_killed_children_lose_nothing_under_load(processes: Processes, ledger: Ledger) -> None:
    kills = 5
    send(ledger, 300, 0.01)
    worker = start(processes)
    for kill in range(kills):
        wait_for_ends(ledger, 40 * (kill + 1))
        ledger.note(ledgers.FAULT)
        os.kill(grandchildren(worker)[0], signal.SIGKILL)
    wait_for_ends(ledger, 300)
    wait_until(drained, WAIT, "the queue to be empty")
    assert worker.terminate() == 0
    findings = check(ledger)
    assert findings.lost == []
    assert findings.duplicates <= kills
    assert findings.unexpected == []


def test_killed_workers_lose_nothing_under_load(processes: Processes, ledger: Ledger) -> None:
    kills = 3
    send(ledger, 300, 0.01)
    worker = start(processes)
    for kill in range(kills):
        wait_for_ends(ledger, 50 * (kill + 1))
        ledger.note(ledgers.FAULT)
        worker.kill()
        worker = start(processes)
    wait_for_ends(ledger, 300)
    wait_until(drained, WAIT, "the queue to be empty")
    assert worker.terminate() == 0
    findings = check(ledger)
    assert findings.lost == []
    # two children are interrupted by each kill, each with at most one running task
    assert findings.duplicates <= 2 * kills
    assert max(findings.extra_starts.values(), default=0) <= kills


def test_another_worker_takes_over_within_seconds(processes: Processes, ledger: Ledger) -> None:
    doomed = start(processes, "doomed")
    result = tasks.die_with_worker.delay(str(ledger.path), doomed.pid)
    wait_until(lambda: ledger.ids(ledgers.STARTED), WAIT, "the task to start")
    start(processes, "heir")
    doomed.kill()
    assert result.get(timeout=WAIT) == 2


def test_children_do_not_outlive_a_killed_parent(processes: Processes, ledger: Ledger) -> None:
    worker = start(processes)
    send(ledger, 2, 3600.0)
    wait_until(lambda: len(ledger.ids(ledgers.STARTED)) == 2, WAIT, "both children to be busy")
    worker.kill_main()
    wait_until(lambda: not processes.survivors(), 3, "nursery and children to end with their parent")


def test_a_task_that_kills_its_child_is_tried_again(processes: Processes, ledger: Ledger) -> None:
    start(processes)
    assert tasks.die.delay(str(ledger.path), 1).get(timeout=WAIT) == 2


def test_a_task_that_always_kills_its_child_ends_as_a_dead_letter_and_others_run(
    processes: Processes, ledger: Ledger, tmp_path: Path
) -> None:
    worker = start(processes)
    good = Ledger(tmp_path / "good")
    poison = tasks.die.delay(str(ledger.path), 1_000)
    send(good, 200, 0.01)
    with pytest.raises(WorkerLostError, match="given up"):
        poison.get(timeout=WAIT)
    assert len(ledger.ids(ledgers.STARTED)) == 5
    wait_for_ends(good, 200)
    letter = wait_until(lambda: DeadLetter.objects.first(), WAIT, "the message to be kept")
    assert letter.reason == "max_deliveries"
    assert letter.task_id == poison.id
    wait_until(drained, WAIT, "the queue to be empty")
    assert check(good).lost == []
    assert worker.terminate() == 0
    assert worker.log().count("djq.dead reason=max_deliveries") == 1


def test_healthy_tasks_beside_one_that_kills_whole_workers_are_not_counted(
    processes: Processes, ledger: Ledger
) -> None:
    worker = start(processes)
    send(ledger, 100, 0.02)
    for _ in range(6):  # one more than TASK_MAX_DELIVERIES
        seen = len(ledger.ids(ledgers.STARTED))
        wait_until(
            lambda seen=seen: len(ledger.ids(ledgers.STARTED)) >= seen + 3, WAIT, "some tasks to start"
        )
        worker.kill()
        worker = start(processes)
    wait_for_ends(ledger, 100)
    assert not DeadLetter.objects.exists()
    assert check(ledger).lost == []


def test_results_wait_for_a_locked_database_and_are_stored_afterwards(
    processes: Processes, ledger: Ledger
) -> None:
    worker = start(processes)
    result = tasks.record.delay(str(ledger.path), 0.5)
    wait_until(lambda: ledger.ids(ledgers.STARTED), WAIT, "the task to start")
    with locked_database():
        wait_until(lambda: ledger.ids(ledgers.ENDED), WAIT, "the task to end")
    assert result.get(timeout=WAIT) == "recorded"
    assert worker.terminate() == 0
    assert len(ledger.ids(ledgers.STARTED)) == 1


def locked_database() -> AbstractContextManager[None]:
    """Hold the database's write lock, as a rogue process would."""
    return transaction.atomic(durable=True)
