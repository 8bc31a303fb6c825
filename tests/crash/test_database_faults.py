"""What administrators and machines do to a database under load: locks, limits, ended sessions, a fail-over.

Tasks are accepted before, while and after; then is looked at what ran, how often, and who holds what.
Delivery promises D01, D03, D04, D05 and D11 to D15, on PostgreSQL and MariaDB.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import Group
from django.db import OperationalError, connection, connections, transaction

from djqueue import enqueue_many
from djqueue.messaging import brokers
from djqueue.messaging.transports.database.claims import Claims
from djqueue.messaging.transports.database.contract import one_choice
from djqueue.models import Claimer, Message
from djqueue_results.models import TaskResult
from tests.contracts.sources.conftest import KINDS, Bench, ids
from tests.crash.test_server_faults import WAIT, drained, send, start, wait_for_ends
from tests.project import tasks
from tests.support import databases
from tests.support import ledger as ledgers
from tests.support.ledger import Ledger, check
from tests.support.processes import Processes
from tests.support.proxy import Proxy
from tests.support.servers import PrivatePostgres, Server, provide
from tests.support.waiting import wait_until

on_servers = pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
#: longer than any pause of a worker's between two looks, and than a lease of those tests
LOCKED = 5.0


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def bench(database: str) -> Iterator[Bench]:
    bench = Bench(KINDS[database], brokers.broker("django://default"))
    yield bench
    bench.close()


@contextmanager
def own(server: Server, tmp_path: Path, url: str = "") -> Iterator[Processes]:
    """Give real commands on a database of the server's, reached by `url` if given."""
    with databases.on(server) as direct, ExitStack() as rooms:
        there = urlsplit(url)._replace(path=urlsplit(direct).path).geturl() if url else direct
        rooms.enter_context(databases.standing_in(there))
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.project.settings",
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "error",
        }
        processes = Processes(tmp_path, environment)
        try:
            yield processes
        finally:
            processes.close()
            connections["default"].close()


@contextmanager
def locked(kind: str, table: str) -> Iterator[None]:
    """Let nobody read or write the table inside the block, as a migration does."""
    other: Any = connection.copy()
    try:
        with other.cursor() as cursor:
            if kind == "mariadb":
                cursor.execute(f"LOCK TABLES {table} WRITE")
            else:
                other.set_autocommit(False)
                cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield
            cursor.execute("UNLOCK TABLES" if kind == "mariadb" else "COMMIT")
    finally:
        other.close()


def waits_for_lock(kind: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM information_schema.processlist WHERE state LIKE 'Waiting for table%'"
            if kind == "mariadb"
            else "SELECT count(*) FROM pg_locks WHERE NOT granted"
        )
        return bool(cursor.fetchone()[0])


def leases() -> list[float]:
    return list(Claimer.objects.values_list("lease_until", flat=True))


@on_servers
@pytest.mark.parametrize("table", [TaskResult._meta.db_table, Message._meta.db_table])
def test_workers_wait_for_a_table_that_is_locked_and_nothing_fails(
    database: str, table: str, processes: Processes, ledger: Ledger
) -> None:
    """Given tasks that end while it is locked, their results are there afterwards; leases outlast that."""
    workers = [start(processes, name, lease=LOCKED - 2) for name in ("one", "two")]
    results = enqueue_many([tasks.record.s(str(ledger.path), 1.0) for _ in range(4)])
    for result in results:
        ledger.note(ledgers.ACCEPTED, result.id)
    wait_until(lambda: len(ledger.ids(ledgers.STARTED)) == 4, WAIT, "all children to be busy")
    with locked(database, table):
        wait_until(lambda: len(ledger.ids(ledgers.ENDED)) == 4, WAIT, "the tasks to end meanwhile")
        wait_until(lambda: waits_for_lock(database), WAIT, "for a worker to wait for the table")
        until = max(leases()) + LOCKED
        wait_until(lambda: min(leases()) > until, WAIT, "for leases to be renewed meanwhile")
    assert [result.get(timeout=WAIT) for result in results] == ["recorded"] * 4
    wait_until(drained, WAIT, "the queue to be empty")
    assert [worker.terminate(within=30) for worker in workers] == [0, 0]
    findings = check(ledger)
    assert (findings.lost, findings.duplicates, findings.unexpected) == ([], 0, [])


LIMITS = {
    "postgres": (
        "ALTER ROLE postgres SET idle_session_timeout = '1s'",
        "ALTER ROLE postgres SET idle_in_transaction_session_timeout = '1s'",
        "ALTER ROLE postgres SET statement_timeout = '2s'",
        "ALTER ROLE postgres SET lock_timeout = '1s'",
    ),
    "mariadb": ("SET GLOBAL wait_timeout = 1", "SET GLOBAL interactive_timeout = 1"),
}


@pytest.mark.parametrize("kind", list(LIMITS))
@pytest.mark.usefixtures("transactional_db")
def test_limits_that_an_administrator_sets_take_no_lock_from_a_worker(
    kind: str, tmp_path: Path, ledger: Ledger
) -> None:
    """Given sessions that end after a second of idleness, nobody takes a living worker for dead."""
    with closing(provide(kind)) as server, own(server, tmp_path) as processes:
        with connection.cursor() as cursor:
            for limit in LIMITS[kind]:
                cursor.execute(limit)
        connection.close()
        workers = [start(processes, name) for name in ("one", "two")]
        connection.close()
        send(ledger, 4, 6.0)
        wait_until(lambda: len(ledger.ids(ledgers.STARTED)) == 4, WAIT, "all children to be busy")
        wait_for_ends(ledger, 4)
        connection.close()
        wait_until(drained, WAIT, "the workers to settle")
        send(ledger, 20, 0.0)
        wait_for_ends(ledger, 24)
        connection.close()
        wait_until(drained, WAIT, "the queue to be empty")
        assert [worker.terminate(within=30) for worker in workers] == [0, 0]
        assert all("djq.recovered" not in worker.log() for worker in workers)
    findings = check(ledger)
    assert (findings.lost, findings.duplicates, findings.unexpected) == ([], 0, [])


@on_servers
def test_a_task_whose_session_is_ended_fails_by_itself_and_the_worker_goes_on(
    database: str, processes: Processes
) -> None:
    Group.objects.all().delete()
    worker = start(processes, "one")
    broken = tasks.end_own_session.delay()
    assert "Error" in type(broken.get(timeout=WAIT, propagate=False)).__name__
    assert tasks.count_groups.delay().get(timeout=WAIT) == 0
    assert worker.terminate(within=30) == 0


@on_servers
def test_a_deadlock_is_tried_again(database: str, bench: Bench) -> None:
    """Given two who change the same two messages in opposite order, both come to an end."""
    bench.send("a", "b")
    first, second = Message.objects.order_by("id").values_list("id", flat=True)
    vendor = bench.broker.vendor  # type: ignore[attr-defined]
    both_hold = threading.Barrier(2)
    tries: list[str] = []
    errors: list[BaseException] = []

    def change(name: str, keys: tuple[int, int]) -> None:
        def once() -> None:
            tries.append(name)
            with transaction.atomic():
                Message.objects.filter(id=keys[0]).update(task=name)
                if tries.count(name) == 1:
                    both_hold.wait(WAIT)
                Message.objects.filter(id=keys[1]).update(task=name)

        try:
            vendor.patiently(once)
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [
        threading.Thread(target=change, args=("one", (first, second))),
        threading.Thread(target=change, args=("two", (second, first))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert errors == []
    assert sorted(tries) in (["one", "one", "two"], ["one", "two", "two"])
    assert len(set(Message.objects.values_list("task", flat=True))) == 1


@on_servers
def test_what_a_claim_took_whose_answer_was_lost_is_not_held_for_ever(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.send("a", "b", "c")
    source = bench.source(consumer="one")
    (first,) = source.receive(1)
    take = Claims.take

    def lose(claims: Claims, room: int) -> Any:
        take(claims, room)
        raise OperationalError("server closed the connection unexpectedly")

    with monkeypatch.context() as patched:
        patched.setattr(Claims, "take", lose)
        with pytest.raises(OperationalError):
            source.receive(1)
    again = source.receive(3)
    assert [(one.message.headers["id"], one.redelivered, one.starts) for one in again] == [
        ("b", True, 0),
        ("c", False, 0),
    ]
    assert source.settle([one.ack() for one in (first, *again)]) == []


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("is_analyzed", [False, True])
def test_claims_find_their_way_past_what_no_vacuum_has_collected(bench: Bench, *, is_analyzed: bool) -> None:
    """Given ten thousand messages that are done with, twice as many dead rows, a claim reads few pages.

    Also where statistics say that the table is full of messages that wait, as they do in a backlog.
    """
    table = Message._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
        try:
            for _ in range(10):
                bench.send(*map(str, range(1000)), body=b"[[], {}, {}]" + b" " * 500)
            if is_analyzed:
                cursor.execute(f"ANALYZE {table}")
            source = bench.source()
            while deliveries := source.receive(500):
                assert source.settle([one.ack() for one in deliveries]) == []
            bench.send("last")
            cursor.execute("SELECT pg_relation_size(%s) / 8192", [table])
            (pages,) = cursor.fetchone()
            claim = one_choice(1, " FOR UPDATE SKIP LOCKED")
            cursor.execute(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {claim}", {"queue0": "default", "room": 200}
            )
            plan = cursor.fetchone()[0][0]["Plan"]
        finally:
            cursor.execute(f"ALTER TABLE {table} RESET (autovacuum_enabled)")
    assert plan["Actual Rows"] == 1
    assert pages > 1000
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < pages / 5


@on_servers
@pytest.mark.parametrize("hours", [-2, 2])
def test_a_worker_whose_clock_is_wrong_takes_nothing_too_early_or_late(
    bench: Bench, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    bench.send("ready")
    bench.send("in an hour", due=now + 3600)
    bench.send("at once", due=now + 0.5)
    monkeypatch.setattr(time, "time", lambda: now + hours * 3600 + time.monotonic() - began)
    began = time.monotonic()
    source = bench.source(consumer="wrong")
    taken: list[str] = []

    def take() -> bool:
        source.tend(time.monotonic())
        deliveries = source.receive(10)
        taken.extend(ids(deliveries))
        source.settle([one.ack() for one in deliveries])
        return len(taken) >= 2

    wait_until(take, WAIT, "for what is due")
    assert taken == ["ready", "at once"]
    assert not source.receive(10)


@pytest.mark.usefixtures("transactional_db")
def test_a_server_that_stops_at_once_under_load_loses_nothing(tmp_path: Path, ledger: Ledger) -> None:
    """Given PostgreSQL that is killed while workers drain, what was in flight may run twice, nothing more."""
    with closing(provide("postgres")) as server, own(server, tmp_path) as processes:
        workers = [start(processes, name) for name in ("one", "two")]
        send(ledger, 600, 0.005)
        wait_until(lambda: len(ledger.ids(ledgers.ENDED)) > 50, WAIT, "the workers to be at it")
        server.kill()
        in_flight = 2 * 2 * 64  # what children of two workers may have before them
        server.restart()
        connection.close()
        wait_for_ends(ledger, 600)
        wait_until(drained, WAIT, "the queue to be empty")
        assert [worker.terminate(within=30) for worker in workers] == [0, 0]
    findings = check(ledger)
    assert (findings.lost, findings.unexpected) == ([], [])
    assert findings.duplicates <= in_flight


@pytest.mark.usefixtures("transactional_db")
def test_a_standby_that_is_promoted_has_everything_and_workers_go_on_with_it(
    tmp_path: Path, ledger: Ledger
) -> None:
    """Given synchronous replication, and an address that moves to the standby when the primary dies."""
    if not PrivatePostgres.binary():
        provide("postgres")
        pytest.skip("This test breaks the server; it needs PostgreSQL's programs.")
    with (
        closing(PrivatePostgres()) as primary,
        closing(Proxy(primary.url)) as address,
        closing(primary.standby()) as standby,
        own(primary, tmp_path, address.url.replace("//", "//postgres@")) as processes,
    ):
        worker, other = start(processes, "one"), start(processes, "other")
        send(ledger, 4, 3.0)
        wait_until(lambda: len(ledger.ids(ledgers.STARTED)) == 4, WAIT, "all children to be busy")
        send(ledger, 50, 0.0)
        primary.kill()
        standby.promote()
        address.turn_to(standby.url)
        connection.close()
        send(ledger, 50, 0.0)
        wait_for_ends(ledger, 104)
        wait_until(drained, WAIT, "the queue to be empty")
        assert [one.terminate(within=30) for one in (worker, other)] == [0, 0]
        connection.close()
        primary.restart()  # so that its database can be dropped
        primary.say("ALTER SYSTEM RESET synchronous_standby_names")
        primary.say("SELECT pg_reload_conf()")
    findings = check(ledger)
    assert (findings.lost, findings.duplicates, findings.unexpected) == ([], 0, [])
