"""The ORM store beyond the contract: transactions, aliases, what is kept, what is locked and for how long."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from djqueue import states
from djqueue.exceptions import BackendGetMetaError, BackendStoreError
from djqueue.result.backends import backend
from djqueue_results.backends import database, statements
from djqueue_results.backends.database import DatabaseBackend
from djqueue_results.models import TaskResult
from djqueue_results.querysets import PRUNED_AT_ONCE
from djqueue_results.rows import COLUMNS
from tests.support.results import TaskResultFactory, document


@pytest.fixture
def store() -> DatabaseBackend:
    found = backend("django-db")
    assert isinstance(found, DatabaseBackend)
    return found


class ToOther:
    """A router that keeps results in another database."""

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "other" if model is TaskResult else None


# What is written


@pytest.mark.django_db
def test_a_batch_is_one_statement(store: DatabaseBackend) -> None:
    with CaptureQueriesContext(connection) as queries:
        store.store_many([document(str(number)) for number in range(50)])
    written = [query["sql"] for query in queries if "INSERT" in query["sql"]]
    assert len(written) == 1


@pytest.mark.django_db
def test_a_later_write_that_knows_less_wipes_nothing(store: DatabaseBackend) -> None:
    known = document(
        "a", states.STARTED, name="shop.add", args="(1,)", worker="w", queue="q", date_started=5.0
    )
    known.root_id = known.parent_id = known.group_id = known.periodic_task_name = "x"
    store.store_many([known, document("a", states.FAILURE, value=None)])
    kept = store.fetch("a")
    assert kept is not None
    assert (kept.status, kept.name, kept.args, kept.worker, kept.queue, kept.date_started) == (
        *(states.FAILURE, "shop.add", "(1,)", "w", "q"),
        5.0,
    )
    assert (kept.root_id, kept.parent_id, kept.group_id, kept.periodic_task_name) == ("x", "x", "x", "x")


@pytest.mark.django_db
def test_the_first_sight_of_a_task_is_remembered(store: DatabaseBackend) -> None:
    store.store_many([document("a", states.STARTED)])
    first = TaskResult.objects.get(task_id="a").date_created
    store.store_many([document("a", states.SUCCESS)])
    assert TaskResult.objects.get(task_id="a").date_created == first


@pytest.mark.django_db
@pytest.mark.parametrize("use_tz", [True, False])
def test_times_are_those_that_the_orm_reads(store: DatabaseBackend, settings: Any, use_tz: bool) -> None:
    settings.USE_TZ = use_tz
    moment = datetime(2026, 7, 1, 12, 0, 0, 250000, tzinfo=UTC).timestamp()
    store.store_many([document("a", date_done=moment)])
    done = TaskResult.objects.get(task_id="a").date_done
    expected = datetime(2026, 7, 1, 12, 0, 0, 250000, tzinfo=UTC)
    assert done == (expected if use_tz else datetime(2026, 7, 1, 14, 0, 0, 250000))  # Europe/Oslo
    found = store.fetch("a")
    assert found is not None
    assert found.date_done == moment


@pytest.mark.django_db
def test_a_row_that_the_project_made_is_taken_over(store: DatabaseBackend) -> None:
    TaskResult.objects.create(task_id="a", task_name="made before it was sent")
    store.store_many([document("a", states.SUCCESS)])
    row = TaskResult.objects.get(task_id="a")
    assert (row.status, row.task_name) == (states.SUCCESS, "made before it was sent")


def test_large_batches_are_split_by_rows_and_by_text() -> None:
    def sizes(texts: list[int], ids: list[str] | None = None) -> list[int]:
        rows = []
        for number, size in enumerate(texts):
            row: list[Any] = [None] * len(COLUMNS)
            row[0] = ids[number] if ids else f"{number:05}"
            row[COLUMNS.index("result")] = "x" * size
            rows.append(tuple(row))
        return [len(statement) for statement in statements._in_statements(rows)]

    most = statements.TEXT_AT_ONCE
    assert sizes([1] * 450) == [200, 200, 50]
    assert sizes([most // 2] * 5) == [2, 2, 1]
    assert sizes([most * 2, 1, most * 2]) == [1, 1, 1]
    assert sizes([1, 1, 1], ["a", "a", "b"]) == [1, 2]


# Which database, which transaction


@pytest.mark.django_db(databases=["default", "other"])
def test_the_router_says_where_results_are_kept(store: DatabaseBackend, settings: Any) -> None:
    assert store.transactional_alias == "default"
    settings.DATABASE_ROUTERS = ["tests.unit.results_app.test_store.ToOther"]
    assert store.transactional_alias == "other"
    store.store_many([document("a")])
    assert store.fetch("a") is not None
    assert TaskResult.objects.using("other").count() == 1
    assert TaskResult.objects.using("default").count() == 0
    assert store.as_uri() == "django-db (other)"
    store.forget_many(["a"])
    assert TaskResult.objects.using("other").count() == 0


@pytest.mark.django_db(transaction=True)
def test_results_are_part_of_the_transaction_around_them(store: DatabaseBackend) -> None:
    with transaction.atomic():
        store.store_many([document("dropped")])
        transaction.set_rollback(True)
    with transaction.atomic():
        store.store_many([document("kept")])
    assert list(TaskResult.objects.values_list("task_id", flat=True)) == ["kept"]


@pytest.fixture
def snapshots() -> Iterator[None]:
    """Make transactions start as readers of a snapshot, as they do without the test project's option."""
    connection.ensure_connection()
    mode, connection.transaction_mode = connection.transaction_mode, None  # type: ignore[attr-defined]
    with connection.cursor() as cursor:
        before = cursor.execute("PRAGMA journal_mode").fetchone()[0]
        cursor.execute("PRAGMA journal_mode = wal")
    yield
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA journal_mode = {before}")
    connection.transaction_mode = mode  # type: ignore[attr-defined]


def store_elsewhere(store: DatabaseBackend, *documents: Any) -> None:
    """Store and commit over the connection of another thread."""

    def work() -> None:
        store.store_many(documents)
        connections.close_all()

    other = threading.Thread(target=work)
    other.start()
    other.join()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("snapshots")
def test_reading_inside_a_transaction_sees_what_others_commit(store: DatabaseBackend) -> None:
    store.store_many([document("a", states.STARTED)])
    with transaction.atomic():
        assert TaskResult.objects.get().status == states.STARTED  # from now on the transaction sees no more
        store_elsewhere(store, document("a", states.SUCCESS), document("b", states.SUCCESS))
        assert TaskResult.objects.get().status == states.STARTED
        assert {name: found.status for name, found in store.fetch_many(["a", "b"]).items()} == {
            "a": states.SUCCESS,
            "b": states.SUCCESS,
        }
        waited = store.wait("a", timeout=0)
        assert waited is not None
        assert waited.status == states.SUCCESS
        assert store.wait("never", timeout=0.03) is None
    assert store._spare.connection is None


@pytest.mark.django_db(transaction=True)
def test_reading_inside_a_transaction_sees_what_it_wrote_itself(store: DatabaseBackend) -> None:
    store.store_many([document("a", states.STARTED)])
    with transaction.atomic():
        store.store_many([document("a", states.RETRY), document("a", states.STARTED, retries=1)])
        found = store.fetch("a")
    assert found is not None
    assert found.retries == 1


@pytest.mark.django_db
def test_the_transaction_of_a_test_case_hides_nothing(store: DatabaseBackend) -> None:
    store.store_many([document("a", states.STARTED)])
    with CaptureQueriesContext(connection) as queries:
        assert store.fetch("a") is not None
    assert len(queries) == 1
    assert not database._holds_a_snapshot(connection)
    with transaction.atomic():
        assert database._holds_a_snapshot(connection)


# When the database does not want to


@pytest.fixture
def locked() -> Iterator[sqlite3.Connection]:
    """Hold the write lock of the database; ours gives up at once instead of waiting for it."""
    connection.ensure_connection()
    connection.connection.execute("PRAGMA busy_timeout = 1")
    rogue = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    rogue.execute("BEGIN IMMEDIATE")
    yield rogue
    rogue.close()
    connection.close()


@pytest.mark.django_db(transaction=True)
def test_a_locked_database_is_an_error_that_can_be_retried(
    store: DatabaseBackend, locked: sqlite3.Connection
) -> None:
    with pytest.raises(
        BackendStoreError, match="2 tasks could not be written to the database 'default'"
    ) as error:
        store.store_many([document("a", states.FAILURE), document("b")])
    assert (error.value.task_id, error.value.state) == ("a", states.FAILURE)
    locked.execute("ROLLBACK")
    store.store_many([document("a"), document("b")])
    assert TaskResult.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_short_lock_is_waited_for(
    store: DatabaseBackend, locked: sqlite3.Connection, monkeypatch: Any
) -> None:
    slept: list[float] = []

    def release(seconds: float) -> None:
        slept.append(seconds)
        locked.execute("ROLLBACK")

    monkeypatch.setattr(time, "sleep", release)
    store.store_many([document("a")])
    assert len(slept) == 1


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_nothing_is_tried_twice(store: DatabaseBackend, monkeypatch: Any) -> None:
    tries = []

    def fail(*_: Any) -> None:
        tries.append(1)
        raise OperationalError("deadlock detected")

    monkeypatch.setattr(database, "upsert", fail)
    with transaction.atomic(), pytest.raises(BackendStoreError, match="deadlock detected"):
        store.store_many([document("a")])
    assert len(tries) == 1
    with pytest.raises(BackendStoreError):
        store.store_many([document("a")])
    assert len(tries) == 1 + database.TRIES


@pytest.mark.django_db(transaction=True)
def test_a_lost_connection_is_replaced(store: DatabaseBackend, monkeypatch: Any) -> None:
    store.store_many([document("a")])
    lost = connection.connection

    def fail_over_the_lost_one(*arguments: Any) -> Any:
        if connection.connection is lost:
            raise InterfaceError("connection already closed")
        return statements.select(*arguments)

    monkeypatch.setattr(database, "select", fail_over_the_lost_one)
    monkeypatch.setattr(connection, "is_usable", lambda: False)
    assert store.fetch("a") is not None


@pytest.mark.django_db(transaction=True)
def test_an_unreadable_table_is_an_error_with_the_task(store: DatabaseBackend, monkeypatch: Any) -> None:
    monkeypatch.setattr(statements, "TABLE", "no_such_table")
    with pytest.raises(BackendGetMetaError, match="could not be read from the database 'default'") as error:
        store.fetch("a")
    assert error.value.task_id == "a"


# Cleaning up


@pytest.mark.django_db
def test_expired_rows_go_in_small_batches(store: DatabaseBackend) -> None:
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    rows = TaskResultFactory.build_batch(PRUNED_AT_ONCE + 1, date_done=long_ago)
    TaskResult.objects.bulk_create([*rows, *TaskResultFactory.build_batch(2, date_done=None)])
    TaskResult.objects.filter(date_done=long_ago).update(date_created=long_ago)
    with CaptureQueriesContext(connection) as queries:
        assert store.clean_up() == PRUNED_AT_ONCE + 1
    assert (
        len(
            [
                query
                for query in queries
                if query["sql"].startswith('DELETE FROM "djqueue_results_taskresult"')
            ]
        )
        == 2
    )
    assert TaskResult.objects.count() == 2


@pytest.mark.django_db
def test_a_long_task_that_ended_lately_is_kept(store: DatabaseBackend) -> None:
    TaskResultFactory.create(task_id="a", date_done=datetime.now(UTC))
    TaskResult.objects.update(date_created=datetime(2020, 1, 1, tzinfo=UTC))
    assert store.clean_up() == 0


@pytest.mark.django_db
@pytest.mark.parametrize("index", ["created", "status", "name", "periodic"])
def test_the_indexes_serve_what_they_are_for(index: str) -> None:
    asked = {
        "created": TaskResult.objects.order_by("-date_created")[:50],
        "status": TaskResult.objects.filter(status="FAILURE").order_by("-date_created")[:50],
        "name": TaskResult.objects.filter(task_name="a").order_by("-date_created")[:50],
        "periodic": TaskResult.objects.filter(periodic_task_name="a").order_by("-date_created")[:1],
    }
    plan = asked[index].explain()
    assert f"djq_result_{index}" in plan
    assert "TEMP B-TREE" not in plan
