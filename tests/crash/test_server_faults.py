"""Database servers in trouble, and workers that lose them: nothing is lost, nobody runs anything twice.

Sessions are ended, servers killed and restarted, workers stopped beyond their leases; then is looked at who
holds what. Delivery promises W03, W07, D01, D02, D05, D10 and D12.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection, connections

from djqueue import enqueue_many
from djqueue.messaging import brokers
from djqueue.models import Claimer, Message
from tests.contracts.sources.conftest import KINDS, Bench, ids, receive_within
from tests.project import tasks
from tests.support import databases
from tests.support import ledger as ledgers
from tests.support.ledger import Ledger, check
from tests.support.processes import Command, Processes
from tests.support.servers import Server, provide
from tests.support.waiting import wait_until

WAIT = 60.0
on_servers = pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
END_SESSIONS = {
    "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    "mariadb": "SELECT id FROM information_schema.processlist"
    " WHERE db = DATABASE() AND id <> CONNECTION_ID()",
}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def bench(database: str) -> Iterator[Bench]:
    bench = Bench(KINDS[database], brokers.broker("django://default"))
    yield bench
    bench.close()


def start(processes: Processes, name: str, **transport: object) -> Command:
    options = {"BROKER_TRANSPORT_OPTIONS": transport}
    command = processes.start("runworker", "-c", "2", "-n", f"{name}@%h", settings=options)
    command.wait_for_line("djq.worker.ready", within=30)
    return command


def end_sessions(kind: str) -> None:
    """End every session but this one, as an administrator would."""
    with connection.cursor() as cursor:
        cursor.execute(END_SESSIONS[kind])
        if kind == "mariadb":
            for (number,) in cursor.fetchall():
                cursor.execute(f"KILL {number}")


def send(ledger: Ledger, count: int, seconds: float) -> None:
    for result in enqueue_many([tasks.record.s(str(ledger.path), seconds) for _ in range(count)]):
        ledger.note(ledgers.ACCEPTED, result.id)


def wait_for_ends(ledger: Ledger, count: int) -> None:
    wait_until(lambda: len(set(ledger.ids(ledgers.ENDED))) >= count, WAIT, f"{count} tasks to end")


def drained() -> bool:
    return brokers.broker().size("default") == 0 and not Message.objects.exists()


@on_servers
def test_sessions_that_are_ended_come_back_and_nothing_runs_twice(
    database: str, processes: Processes, ledger: Ledger
) -> None:
    one, two = start(processes, "one"), start(processes, "two")
    send(ledger, 4, 4.0)
    wait_until(lambda: len(ledger.ids(ledgers.STARTED)) == 4, WAIT, "all children to be busy")
    end_sessions(database)
    wait_for_ends(ledger, 4)
    wait_until(drained, WAIT, "the queue to be empty")
    send(ledger, 20, 0.0)
    wait_for_ends(ledger, 24)
    assert [worker.terminate(within=30) for worker in (one, two)] == [0, 0]
    findings = check(ledger)
    assert (findings.lost, findings.duplicates, findings.unexpected) == ([], 0, [])
    assert not Claimer.objects.exists()


@on_servers
def test_who_lost_its_own_session_waits_for_others_to_come_back_too(
    database: str, processes: Processes, ledger: Ledger
) -> None:
    slow = start(processes, "slow")
    send(ledger, 2, 6.0)
    wait_until(lambda: len(ledger.ids(ledgers.STARTED)) == 2, WAIT, "both children to be busy")
    swift = start(processes, "swift")
    slow.stop()
    end_sessions(database)
    swift.wait_for_line("djq.broker.restored", within=30)
    later = tasks.record.apply_async((str(ledger.path),), countdown=2.5)  # a dead worker's tasks wait less
    ledger.note(ledgers.ACCEPTED, later.id)
    wait_until(lambda: later.id in ledger.ids(ledgers.ENDED), WAIT, "the swift one to work again")
    slow.cont()
    wait_for_ends(ledger, 3)
    wait_until(drained, WAIT, "the queue to be empty")
    assert [worker.terminate(within=30) for worker in (slow, swift)] == [0, 0]
    findings = check(ledger)
    assert (findings.lost, findings.duplicates, findings.unexpected) == ([], 0, [])


@on_servers
def test_what_a_killed_worker_held_is_taken_over_without_waiting_for_its_lease(
    processes: Processes, ledger: Ledger
) -> None:
    doomed = start(processes, "doomed", lease=600)
    result = tasks.die_with_worker.delay(str(ledger.path), doomed.pid)
    wait_until(lambda: ledger.ids(ledgers.STARTED), WAIT, "the task to start")
    start(processes, "heir", lease=600)
    doomed.kill()
    assert result.get(timeout=WAIT) == 2


@on_servers
def test_a_worker_that_was_stopped_beyond_its_lease_is_fenced_and_goes_on(
    processes: Processes, ledger: Ledger
) -> None:
    stopped = start(processes, "stopped", lease=3)
    send(ledger, 2, 2.0)
    wait_until(lambda: len(ledger.ids(ledgers.STARTED)) == 2, WAIT, "both children to be busy")
    stopped.stop()
    heir = start(processes, "heir", lease=3)
    wait_for_ends(ledger, 2)
    wait_until(drained, WAIT, "the heir to settle")
    stopped.cont()
    stopped.wait_for_line("djq.lease.lost", within=30)
    assert heir.terminate(within=30) == 0
    send(ledger, 5, 0.0)
    wait_for_ends(ledger, 7)
    wait_until(drained, WAIT, "it to settle under its new name")
    assert stopped.terminate(within=30) == 0
    findings = check(ledger)
    assert (findings.lost, findings.unexpected) == ([], [])
    assert findings.duplicates <= 2


@on_servers
def test_a_late_answer_of_a_lease_that_was_lost_is_refused(bench: Bench) -> None:
    bench.send("a")
    slow, fast = bench.source(consumer="slow"), bench.source(consumer="fast")
    (delivery,) = slow.receive(1)
    Claimer.objects.filter(name="slow").delete()  # as others do who take it for dead
    Message.objects.update(claimed_by="")
    (taken,) = fast.receive(1)
    assert slow.settle([delivery.ack()]) == [delivery]
    assert fast.settle([taken.ack()]) == []


@on_servers
def test_a_name_that_is_in_use_is_refused(bench: Bench) -> None:
    bench.source(consumer="twin")
    with pytest.raises(Exception, match="uses this worker's name"):
        bench.source(consumer="twin")


@on_servers
def test_one_who_looks_after_the_dead_needs_two_looks_or_an_end_of_the_lease(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a lock that is free for a moment only, its holder keeps what it holds."""
    bench.send("a")
    source, other = bench.source(consumer="holder"), bench.source(consumer="other")
    source.receive(1)
    session = Claimer.objects.get(name="holder").session
    assert session
    Claimer.objects.filter(name="holder").update(session="another")  # the lock is taken: nobody suspects
    for _ in range(3):
        other.tend(time.monotonic() + 10)
    assert Message.objects.get().claimed_by == "holder"


@on_servers
def test_behind_a_pooler_there_are_leases_and_looking(
    bench: Bench, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pooler cannot be had everywhere, so the session is made to look like a borrowed one."""
    vendor = type(bench.broker.vendor)  # type: ignore[attr-defined]
    monkeypatch.setattr(vendor, "is_pooled", lambda *_: True)
    source = bench.source(consumer="pooled")
    assert Claimer.objects.get().session == ""
    bench.send("a")
    assert ids(receive_within(source, 5, "for the look")) == ["a"]


@on_servers
def test_many_write_at_once_and_nothing_is_taken_twice(bench: Bench) -> None:
    """Given senders and claimers in threads, each message is handed out once; deadlocks are tried again."""
    taken: list[str] = []
    errors: list[BaseException] = []
    sources = [bench.source("one", "two", consumer=f"claimer-{number}") for number in range(4)]

    def work(number: int) -> None:
        try:
            for batch in range(5):
                names = [f"{number}-{batch}-{one}" for one in range(20)]
                bench.send(*names[:10], queue="one")
                bench.send(*names[10:], queue="two", priority=number)
                deliveries = sources[number].receive(30)
                taken.extend(ids(deliveries))
                sources[number].settle([one.ack() for one in deliveries])
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    while deliveries := sources[0].receive(100):
        taken.extend(ids(deliveries))
    assert len(taken) == len(set(taken)) == 400


@pytest.fixture
def private_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = provide(request.param)
    yield server
    server.close()


@pytest.mark.parametrize("private_server", ["postgres", "mariadb"], indirect=True)
@pytest.mark.usefixtures("transactional_db")
def test_a_server_that_is_killed_and_comes_back_loses_nothing(
    private_server: Server, tmp_path: Path, ledger: Ledger
) -> None:
    """Given tasks that outlast the outage, they are settled afterwards and none runs twice."""
    with databases.on(private_server) as url, databases.standing_in(url):
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.project.settings",
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "error",
        }
        processes = Processes(tmp_path, environment)
        try:
            worker, other = start(processes, "one"), start(processes, "other")
            send(ledger, 3, 3.0)
            wait_until(lambda: len(ledger.ids(ledgers.STARTED)) == 3, WAIT, "the tasks to start")
            private_server.kill()
            worker.wait_for_line("djq.broker.lost|djq.result.deferred", within=30)
            wait_until(lambda: len(ledger.ids(ledgers.ENDED)) == 3, WAIT, "the tasks to end meanwhile")
            private_server.restart()
            connection.close()
            wait_until(drained, WAIT, "the workers to settle what ended")
            send(ledger, 10, 0.0)
            wait_for_ends(ledger, 13)
            wait_until(drained, WAIT, "the queue to be empty")
            assert [one.terminate(within=30) for one in (worker, other)] == [0, 0]
        finally:
            processes.close()
            connections["default"].close()
    findings = check(ledger)
    assert (findings.lost, findings.duplicates, findings.unexpected) == ([], 0, [])
