"""Pools before PostgreSQL: broker and results work through PgBouncer and Django's own pool; nothing is lost.

Sessions are lent by turns, so that no lock stays and nobody is woken: workers notice, say so, and do with
leases and looking, or go past the pooler for the one session that has to be theirs. Delivery promise D10.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connections, transaction

from djqueue import enqueue_many
from djqueue.conf import settings
from djqueue.exceptions import TimeoutError as NotReady
from djqueue.messaging import brokers
from djqueue.models import Claimer, Message
from djqueue.result import backends
from djqueue.worker.waiting import Waiting
from djqueue_results.backends.database import DatabaseBackend
from tests.project import tasks
from tests.support import databases
from tests.support import ledger as ledgers
from tests.support.ledger import Ledger, check
from tests.support.pooler import PgBouncer, pooling
from tests.support.processes import Command, Processes
from tests.support.waiting import wait_until

WAIT = 60.0
DIRECT = {"direct_alias": "direct"}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


@pytest.fixture(params=["transaction", "session"])
def pooler(
    request: pytest.FixtureRequest, transactional_db: None, postgresql_database: str
) -> Iterator[PgBouncer]:
    """Put PgBouncer in front of the default database, which the alias "direct" of workers leads past."""
    with pooling(postgresql_database, request.param) as pooler, databases.standing_in(pooler.url):
        databases.empty()
        yield pooler


@pytest.fixture
def processes(pooler: PgBouncer, postgresql_database: str, tmp_path: Path) -> Iterator[Processes]:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.project.settings",
        "DJQUEUE_TEST_DIRECT": postgresql_database,
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "error",
    }
    running = Processes(tmp_path, environment)
    yield running
    running.close()


def start(processes: Processes, name: str, **transport: object) -> Command:
    options = {"BROKER_TRANSPORT_OPTIONS": transport}
    command = processes.start("runworker", "-c", "2", "-n", f"{name}@%h", settings=options)
    command.wait_for_line("djq.worker.ready", within=30)
    return command


def send(ledger: Ledger, count: int, seconds: float = 0.0) -> None:
    for result in enqueue_many([tasks.record.s(str(ledger.path), seconds) for _ in range(count)]):
        ledger.note(ledgers.ACCEPTED, result.id)


def drained() -> bool:
    return brokers.broker().size("default") == 0 and not Message.objects.exists()


def wait_for_ends(ledger: Ledger, count: int) -> None:
    wait_until(lambda: len(set(ledger.ids(ledgers.ENDED))) >= count, WAIT, f"{count} tasks to end")
    wait_until(drained, WAIT, "the queue to be empty")


def test_tasks_and_results_go_through_and_the_worker_says_once_what_is_missing(
    processes: Processes, ledger: Ledger
) -> None:
    worker = start(processes, "one")
    send(ledger, 200)
    with transaction.atomic():
        sent = tasks.add.delay(2, 3)
        assert not Message.objects.filter(task_id=sent.id, claimed_by__gt="").exists()
    assert sent.get(timeout=WAIT) == 5
    wait_for_ends(ledger, 200)
    assert Claimer.objects.exists()
    assert not Claimer.objects.exclude(session="").exists()
    assert worker.terminate(within=30) == 0
    assert worker.log().count("djq.database.pooled alias=default") == 1
    findings = check(ledger)
    assert (findings.lost, findings.duplicates, findings.unexpected) == ([], 0, [])
    assert not Claimer.objects.exists()


def test_what_a_killed_worker_held_is_taken_over_when_its_lease_ends(
    processes: Processes, ledger: Ledger
) -> None:
    doomed = start(processes, "doomed", lease=3)
    result = tasks.die_with_worker.delay(str(ledger.path), doomed.pid)
    wait_until(lambda: ledger.ids(ledgers.STARTED), WAIT, "the task to start")
    start(processes, "heir", lease=3)
    doomed.kill()
    assert result.get(timeout=WAIT) == 2


def test_a_worker_that_goes_past_the_pooler_keeps_its_lock_and_is_woken(
    processes: Processes, ledger: Ledger
) -> None:
    """Given leases of ten minutes, what a killed worker held is still taken over at once."""
    doomed = start(processes, "doomed", lease=600, **DIRECT)
    assert Claimer.objects.exists()
    wait_until(lambda: not Claimer.objects.filter(session="").exists(), WAIT, "for all to hold their locks")
    result = tasks.die_with_worker.delay(str(ledger.path), doomed.pid)
    wait_until(lambda: ledger.ids(ledgers.STARTED), WAIT, "the task to start")
    heir = start(processes, "heir", lease=600, **DIRECT)
    doomed.kill()
    assert result.get(timeout=WAIT) == 2
    assert heir.terminate(within=30) == 0
    assert "djq.database.pooled" not in doomed.log() + heir.log()


def test_a_pooler_that_is_killed_and_comes_back_loses_nothing(
    pooler: PgBouncer, processes: Processes, ledger: Ledger
) -> None:
    worker = start(processes, "one")
    send(ledger, 4, 2.0)
    wait_until(lambda: len(ledger.ids(ledgers.STARTED)) == 2, WAIT, "two tasks to start")
    pooler.kill()
    wait_until(lambda: len(ledger.ids(ledgers.ENDED)) >= 2, WAIT, "the tasks to end meanwhile")
    pooler.restart()
    connections.close_all()
    send(ledger, 10)
    wait_for_ends(ledger, 14)
    assert worker.terminate(within=30) == 0
    findings = check(ledger)
    assert (findings.lost, findings.duplicates, findings.unexpected) == ([], 0, [])


@pytest.mark.parametrize("pooler", ["transaction"], indirect=True)
def test_whoever_waits_for_a_result_is_woken_past_the_pooler_only(
    pooler: PgBouncer, processes: Processes, postgresql_database: str
) -> None:
    start(processes, "one")
    assert tasks.nap.delay(0.3).get(timeout=WAIT) == 0.3
    store = backends.backend()
    assert isinstance(store, DatabaseBackend)
    assert store._listeners["default"].is_deaf
    backends.reset()
    past = {**connections.settings["default"], **databases.on_server(postgresql_database)}
    connections.settings["direct"] = connections.configure_settings({"default": past})["default"]
    try:
        with settings.override(RESULT_BACKEND_TRANSPORT_OPTIONS=DIRECT):
            assert tasks.nap.delay(0.3).get(timeout=WAIT) == 0.3
            store = backends.backend()
            assert isinstance(store, DatabaseBackend)
            assert not store._listeners["default"].is_deaf
            backends.reset()
    finally:
        del connections.settings["direct"]


def test_an_alias_that_there_is_not_is_an_error(pooler: PgBouncer) -> None:
    with settings.override(BROKER_TRANSPORT_OPTIONS={"direct_alias": "dircet"}):
        (problem,) = brokers.broker().problems()
        assert problem.id == "database_direct_alias"
        with pytest.raises(Exception, match="DATABASES has no such alias; there are 'default', 'other'"):
            brokers.broker().source(["default"], "one")


def test_sessions_of_our_own_are_not_taken_from_the_pool_of_django(
    transactional_db: None, postgresql_database: str
) -> None:
    """Given a pool of one connection, a worker's keeper and a listener leave it to the thread that works."""
    with databases.standing_in(postgresql_database):
        databases.empty()
        connections["default"].close()
        connections.settings["default"]["OPTIONS"]["pool"] = {"min_size": 1, "max_size": 1, "timeout": 5}
        waiting = Waiting()
        source = brokers.broker().source(["default"], "one")
        try:
            source.open(waiting.watch, waiting.wake)
            assert Claimer.objects.exclude(session="").count() == 1
            sent = tasks.add.delay(2, 3)
            (delivery,) = source.receive(1)
            with pytest.raises(NotReady):
                sent.get(timeout=0.5)
            store = backends.backend()
            assert isinstance(store, DatabaseBackend)
            assert not store._listeners["default"].is_deaf
            assert source.settle([delivery.ack()]) == []
        finally:
            source.close()
            waiting.close()
            backends.reset()
            connections["default"].close()
            connections["default"].close_pool()  # type: ignore[attr-defined]
