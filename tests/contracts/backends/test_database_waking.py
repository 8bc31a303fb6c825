"""Waiting for results in PostgreSQL: who waits is woken by the end itself, or looks where that cannot be.

Whoever is to be woken would look again by himself only after a minute, which is longer than a test waits.
"""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from djqueue import AsyncResult, GroupResult, states
from djqueue.exceptions import TimeoutError as NotReady
from djqueue.result import backends, pauses
from djqueue_results.backends import database_waking
from djqueue_results.backends.database import DatabaseBackend
from djqueue_results.backends.database_waking import CHANNEL, Listener, number_of, tell
from tests.contracts.backends.stores import in_thread
from tests.support.results import document
from tests.support.waiting import wait_until

pytestmark = pytest.mark.parametrize("database", ["postgresql"], indirect=True)
WITHIN = 30.0
#: pauses that nobody would sit out
MINUTE = 60.0


@pytest.fixture
def store(database: str) -> Iterator[DatabaseBackend]:
    found = backends.backend("django-db")
    assert isinstance(found, DatabaseBackend)
    yield found
    found.close()


@pytest.fixture
def never_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "LOOK_AGAIN", MINUTE)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def listener_of(store: DatabaseBackend) -> Listener:
    return store._listeners["default"]


def waits(pool: ThreadPoolExecutor, store: DatabaseBackend, *task_ids: str) -> list[Future[Any]]:
    """Wait for the tasks in threads; return when all of them would be woken."""
    values: list[Future[Any]] = []

    def wait(task_id: str) -> Any:
        try:
            return AsyncResult[Any](task_id).get(timeout=WITHIN, interval=MINUTE)
        finally:
            connections.close_all()

    values = [pool.submit(wait, task_id) for task_id in task_ids]
    wait_until_heard(store, len(task_ids))
    return values


def wait_until_heard(store: DatabaseBackend, count: int) -> None:
    def are_heard() -> bool:
        waiting = store._listeners["default"].waiting() if "default" in store._listeners else []
        return len(waiting) == count and all(waiter.hears for waiter in waiting)

    wait_until(are_heard, WITHIN, f"for {count} to be heard")


def sessions(words: str) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE %s"
            " AND pid <> pg_backend_pid()",
            [f"%{words}%"],
        )
        return [row[0] for row in cursor.fetchall()]


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "djqueue-results"]


@pytest.fixture
def notices(database: str) -> Iterator[Callable[[], list[str]]]:
    """Hear all notices, as another process would."""
    other: Any = connection.copy()
    with other.cursor() as cursor:
        ear = database_waking.Ear(cursor, CHANNEL)

        def heard() -> list[str]:
            cursor.execute("SELECT 1")
            return ear.heard()

        yield heard
    other.close()


@pytest.mark.usefixtures("never_by_itself")
def test_whoever_waits_is_woken_by_the_end(store: DatabaseBackend, pool: ThreadPoolExecutor) -> None:
    (value,) = waits(pool, store, "a")
    store.store_many([document("a", states.STARTED)])
    store.store_many([document("other", value=0), document("a", value=7)])
    assert value.result(WITHIN) == 7


@pytest.mark.usefixtures("never_by_itself")
def test_many_wait_over_one_session(store: DatabaseBackend, pool: ThreadPoolExecutor) -> None:
    values = waits(pool, store, "a", "a", "b", "c")
    assert len(threads()) == 1
    store.store_many([document(name, value=name) for name in "abc"])
    assert [value.result(WITHIN) for value in values] == ["a", "a", "b", "c"]


def test_what_has_ended_is_returned_without_listening(store: DatabaseBackend) -> None:
    store.store_many([document("a", value=7)])
    with CaptureQueriesContext(connection) as queries:
        assert AsyncResult[int]("a").get(timeout=WITHIN) == 7
    assert len(queries) == 1
    assert threads() == []


def test_nobody_is_told_when_nobody_waits(store: DatabaseBackend, notices: Callable[[], list[str]]) -> None:
    with CaptureQueriesContext(connection) as queries:
        store.store_many([document("a", value=7), document("b", value=7)])
    assert len(queries) == 2  # the rows, and whether anybody waits
    assert notices() == []


@pytest.mark.usefixtures("never_by_itself")
def test_only_what_somebody_waits_for_is_told(
    store: DatabaseBackend, pool: ThreadPoolExecutor, notices: Callable[[], list[str]]
) -> None:
    (value,) = waits(pool, store, "a")
    store.store_many([document(name, value=name) for name in "abc"])
    assert value.result(WITHIN) == "a"
    assert notices() == [str(number_of("a"))]


def test_a_state_that_is_no_end_is_not_told(store: DatabaseBackend) -> None:
    with CaptureQueriesContext(connection) as queries:
        store.store_many([document("a", states.STARTED)])
    assert len(queries) == 1


@pytest.mark.usefixtures("never_by_itself")
def test_ends_in_a_transaction_are_told_once_and_when_it_commits(
    store: DatabaseBackend, pool: ThreadPoolExecutor, notices: Callable[[], list[str]]
) -> None:
    one, two = waits(pool, store, "a", "b")
    with transaction.atomic():
        store.store_many([document("a", value=7)])
        store.store_many([document("b", value=8)])
        assert len(connection.run_on_commit) == 1
        assert notices() == []
        assert not one.done()
    assert (one.result(WITHIN), two.result(WITHIN)) == (7, 8)


def test_what_is_rolled_back_is_not_told(
    store: DatabaseBackend, pool: ThreadPoolExecutor, notices: Callable[[], list[str]]
) -> None:
    (value,) = waits(pool, store, "a")
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        store.store_many([document("a", value=7)])
        raise ZeroDivisionError
    assert notices() == []
    store.store_many([document("a", value=8)])
    assert value.result(WITHIN) == 8


@pytest.mark.usefixtures("never_by_itself")
def test_whoever_waits_inside_a_transaction_is_woken_too(
    store: DatabaseBackend, pool: ThreadPoolExecutor
) -> None:
    def wait() -> Any:
        try:
            with transaction.atomic():
                return AsyncResult[Any]("a").get(timeout=WITHIN, interval=MINUTE)
        finally:
            connections.close_all()

    value = pool.submit(wait)
    wait_until_heard(store, 1)
    store.store_many([document("a", value=7)])
    assert value.result(WITHIN) == 7


@pytest.mark.usefixtures("never_by_itself")
def test_a_session_that_is_ended_is_opened_again_and_nothing_is_missed(
    store: DatabaseBackend, pool: ThreadPoolExecutor
) -> None:
    one, two = waits(pool, store, "a", "b")
    (listening,) = sessions("pg_advisory_lock_shared")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [listening])
    store.store_many([document("a", value=7)])
    assert one.result(WITHIN) == 7  # by himself, or by the next session, whichever is first
    wait_until_heard(store, 1)
    assert sessions("pg_advisory_lock_shared") != [listening]
    store.store_many([document("b", value=8)])
    assert two.result(WITHIN) == 8


def test_a_session_that_cannot_be_had_leaves_looking(
    store: DatabaseBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(alias: str) -> Any:
        raise OSError("no connection")

    monkeypatch.setattr(database_waking, "own_session", refuse)
    threading.Timer(0.1, in_thread, [lambda: store.store_many([document("a", value=7)])]).start()
    assert AsyncResult[int]("a").get(timeout=WITHIN) == 7


def test_behind_a_pooler_everyone_looks_by_himself(
    store: DatabaseBackend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "djqueue.broker")
    monkeypatch.setattr(database_waking, "is_pooled", lambda cursor: True)
    for name in "ab":
        threading.Timer(
            0.1, in_thread, [lambda name=name: store.store_many([document(name, value=7)])]
        ).start()
        assert AsyncResult[int](name).get(timeout=WITHIN) == 7
    assert listener_of(store).is_deaf
    assert [record.message.split()[0] for record in caplog.records] == ["djq.result.pooled"]
    wait_until(lambda: not threads(), WITHIN, "for the thread to end")


def test_the_session_is_gone_with_the_connections_of_those_who_waited(
    store: DatabaseBackend, pool: ThreadPoolExecutor
) -> None:
    """Given a test that waited and closes its connections, its database can be dropped."""
    (value,) = waits(pool, store, "a")
    store.store_many([document("a", value=7)])
    assert value.result(WITHIN) == 7  # the thread has closed its connection by then
    assert threads() == []
    wait_until(lambda: not sessions("pg_advisory"), WITHIN, "for the server to notice")


def test_the_session_stays_for_those_who_wait_again(store: DatabaseBackend) -> None:
    for name in "ab":
        threading.Timer(
            0.1, in_thread, [lambda name=name: store.store_many([document(name, value=7)])]
        ).start()
        assert AsyncResult[int](name).get(timeout=WITHIN) == 7
        assert len(threads()) == 1
    listening = sessions("pg_advisory")
    assert len(listening) == 1
    connection.close()
    assert threads() == []


def test_the_session_ends_when_nobody_has_waited_for_a_while(
    store: DatabaseBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_waking, "LINGER", 0.05)
    with pytest.raises(NotReady):
        AsyncResult[int]("a").get(timeout=0.3)
    wait_until(lambda: not threads(), WITHIN, "for the thread to end")


def test_one_who_gives_up_lets_go(store: DatabaseBackend, notices: Callable[[], list[str]]) -> None:
    with pytest.raises(NotReady):
        AsyncResult[int]("a").get(timeout=0.3)
    assert listener_of(store).waiting() == []
    wait_until(lambda: locks() == 0, WITHIN, "for its locks to be free")
    store.store_many([document("a", value=7)])
    assert notices() == []


def locks() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s",
            [database_waking.LOCKS],
        )
        return int(cursor.fetchone()[0])


@pytest.mark.usefixtures("never_by_itself")
def test_a_child_that_was_forked_waits_over_a_session_of_its_own(
    store: DatabaseBackend, pool: ThreadPoolExecutor
) -> None:
    (value,) = waits(pool, store, "a")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: that is what is tested
        child = os.fork()
    if child == 0:
        status = 1
        try:
            inherited = connection.connection  # kept: the parent's
            connection.connection = None
            backends.after_fork()
            status = 0 if inherited and AsyncResult[int]("b").get(timeout=WITHIN, interval=MINUTE) == 8 else 2
        finally:
            os._exit(status)
    wait_until(lambda: locks() >= 3, WITHIN, "for the child to wait, too")
    store.store_many([document("b", value=8)])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not value.done()
    store.store_many([document("a", value=7)])
    assert value.result(WITHIN) == 7


@pytest.mark.usefixtures("never_by_itself")
def test_coroutines_are_woken_in_their_loop(store: DatabaseBackend, pool: ThreadPoolExecutor) -> None:
    names = [f"task-{number}" for number in range(20)]

    async def wait() -> list[Any]:
        results = [AsyncResult[Any](name).aget(timeout=WITHIN, interval=MINUTE) for name in names]
        return await asyncio.gather(*results)

    def in_loop() -> list[Any]:
        return asyncio.run(wait())

    values = pool.submit(in_loop)
    wait_until_heard(store, len(names))
    assert len(threads()) == 1
    store.store_many([document(name, value=name) for name in names])
    assert values.result(WITHIN) == names
    assert listener_of(store).waiting() == []


@pytest.mark.usefixtures("never_by_itself")
def test_a_coroutine_that_is_cancelled_waits_no_more(
    store: DatabaseBackend, pool: ThreadPoolExecutor
) -> None:
    async def wait() -> None:
        waiting = asyncio.ensure_future(AsyncResult[Any]("a").aget(interval=MINUTE))
        await asyncio.to_thread(wait_until_heard, store, 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    pool.submit(asyncio.run, wait()).result(WITHIN)
    assert listener_of(store).waiting() == []


@pytest.mark.usefixtures("never_by_itself")
@pytest.mark.parametrize("twin", ["get", "aget"])
def test_groups_are_woken_by_their_last(
    store: DatabaseBackend, pool: ThreadPoolExecutor, twin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("groups", "handles"):
        monkeypatch.setattr(f"djqueue.result.{module}.LOOK_AROUND", MINUTE)
    members = [AsyncResult[Any](name) for name in "abc"]

    def wait() -> Any:
        try:
            group = GroupResult("g", members)
            if twin == "get":
                return group.get(timeout=WITHIN, interval=MINUTE)
            return asyncio.run(group.aget(timeout=WITHIN, interval=MINUTE))
        finally:
            connections.close_all()

    values = pool.submit(wait)
    wait_until_heard(store, 1)
    for name in "abc":
        store.store_many([document(name, value=name)])
    assert values.result(WITHIN) == ["a", "b", "c"]


def test_a_notice_that_cannot_be_sent_is_none(store: DatabaseBackend) -> None:
    other: Any = connection.copy()
    with other.cursor():
        other.connection.close()
        tell(other, ["a"])
    other.close()
