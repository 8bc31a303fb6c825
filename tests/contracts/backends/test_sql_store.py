"""What the store in SQL databases does beyond the contract: Celery's rows, its tables, its settings; errors.

A stock Celery reads from the database what we store, and the other way round.
"""

from __future__ import annotations

import os
import pickle
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from celery import Celery

from djqueue import states
from djqueue.conf import settings
from djqueue.exceptions import BackendGetMetaError, BackendStoreError, ContentDisallowed, ImproperlyConfigured
from djqueue_results.backends.sql.store import SqlBackend
from tests.support.databases import empty_tables, sql_url, through
from tests.support.proxy import Proxy
from tests.support.results import document
from tests.support.servers import free_port

EVERYWHERE = pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])


@pytest.fixture
def kind() -> str:
    """Return which database is asked; tests for all of them have it as a parameter."""
    return "sqlite"


@pytest.fixture
def url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return empty_tables(sql_url(kind, request, tmp_path))


@pytest.fixture
def store(url: str) -> Iterator[SqlBackend]:
    made = SqlBackend(url)
    yield made
    made.close()


def stock_at(url: str, **told: Any) -> Celery:
    made = Celery("stock", backend=url, set_as_current=False, fixups=[])
    made.conf.update(result_extended=True, **told)
    return made


@pytest.fixture
def stock(url: str) -> Iterator[Any]:
    made = stock_at(url)
    yield made
    made.close()


@pytest.fixture
def database(url: str) -> Iterator[sa.Connection]:
    """Return a connection beside the store's."""
    engine = sa.create_engine(url.removeprefix("db+"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def kept(store: SqlBackend, task_id: str) -> Any:
    """Return the document, which is there."""
    found = store.fetch(task_id)
    assert found is not None
    return found


class Request:
    """What Celery's worker knows of a task."""

    task, args, kwargs, hostname, retries = "shop.add", [1, 2], {"a": "æ"}, "celery@host", 3
    delivery_info = {"routing_key": "celery"}
    children: list[Any] = []
    chord = errbacks = None
    stamps, stamped_headers = {"customer": "7"}, ["customer"]


# Celery's rows


@EVERYWHERE
def test_celery_reads_what_we_store(store: SqlBackend, stock: Any) -> None:
    ours = document(
        "ours", value={"a": ["æ", 1]}, children=[[["child", None], None]], name="shop.add", args="(1, 2)"
    )
    ours.kwargs, ours.worker, ours.queue, ours.stamps = "{}", "worker@host", "default", '{"customer": "7"}'
    failed = document("failed", states.FAILURE, traceback="Traceback…")
    failed.result = '{"exc_type": "KeyError", "exc_message": ["k"], "exc_module": "builtins"}'
    store.store_many([ours, failed])
    theirs = stock.AsyncResult("ours")
    assert theirs.get(timeout=5, interval=0.01) == {"a": ["æ", 1]}
    assert [child.id for child in theirs.children] == ["child"]
    assert (theirs.name, theirs.args, theirs.kwargs, theirs.worker) == ("shop.add", [1, 2], {}, "worker@host")
    assert (theirs.queue, theirs.retries) == ("default", 0)
    # In PostgreSQL it is the session's time that Celery writes, and reads as it stands.
    assert theirs.date_done.minute == 0
    assert theirs.date_done.microsecond == 250_000
    assert kept(store, "ours").date_done == 1_800_000_000.25
    assert stock.backend.get_task_meta("ours")["customer"] == "7"
    with pytest.raises(KeyError, match="k"):
        stock.AsyncResult("failed").get(timeout=5, interval=0.01)
    assert stock.AsyncResult("failed").traceback == "Traceback…"


@EVERYWHERE
def test_we_read_what_celery_stores(store: SqlBackend, stock: Any) -> None:
    before = datetime.now(UTC).timestamp()
    stock.backend.store_result("theirs", [1, "æ"], "SUCCESS", request=Request())
    stock.backend.mark_as_failure("failed", KeyError("k"), traceback="Traceback…", request=Request())
    found = kept(store, "theirs")
    assert (found.status, found.value(), found.name) == (states.SUCCESS, [1, "æ"], "shop.add")
    assert (found.args, found.kwargs) == ("(1, 2)", "{'a': 'æ'}")
    assert (found.worker, found.queue, found.retries) == ("celery@host", "celery", 3)
    assert abs(found.date_done - before) < 60
    assert found.stamps == '{"customer": "7"}'
    failed = kept(store, "failed")
    assert (failed.traceback, repr(failed.value())) == ("Traceback…", "KeyError('k')")


@EVERYWHERE
def test_a_success_by_either_is_final_for_the_other(store: SqlBackend, stock: Any) -> None:
    stock.backend.store_result("theirs", 1, "SUCCESS")
    store.store_many([document("theirs", states.FAILURE, starts=3), document("ours", value=1)])
    stock.backend.store_result("ours", ValueError("late"), "FAILURE")
    assert [found.status for found in store.fetch_many(["theirs", "ours"]).values()] == ["SUCCESS"] * 2


@EVERYWHERE
@pytest.mark.parametrize("hours", [0.5, 1.5])
def test_each_side_cleans_up_after_the_other_at_the_right_time(
    store: SqlBackend, stock: Any, hours: float
) -> None:
    stock.backend.store_result("theirs", 1, "SUCCESS")
    store.store_many([document("ours", date_done=datetime.now(UTC).timestamp() - hours * 3600)])
    stock.backend.expires = timedelta(hours=1)
    stock.backend.cleanup()
    assert [one in store.fetch_many(["theirs", "ours"]) for one in ("theirs", "ours")] == [True, hours < 1]
    with settings.override(RESULT_EXPIRES=3600):
        assert store.clean_up() == 0


def test_what_celery_wrote_after_us_is_read_as_it_wrote_it(store: SqlBackend, stock: Any) -> None:
    store.store_many([document("a", "PROGRESS", result=b"\xff", content_type="application/data")])
    stock.backend.store_result("a", "theirs", "SUCCESS")
    assert kept(store, "a").value() == "theirs"


@EVERYWHERE
def test_groups_are_kept_as_celery_keeps_them(store: SqlBackend, stock: Any) -> None:
    members = [["group", None], [[["a", None], None], [["b", None], None]]]
    assert store.restore_group("group") is None
    for _ in range(2):
        store.save_group("group", members)
    assert [one.id for one in stock.GroupResult.restore("group")] == ["a", "b"]
    assert store.restore_group("group") == members
    store.delete_group("group")
    assert store.restore_group("group") is None
    stock.GroupResult("theirs", [stock.AsyncResult("c")]).save()
    assert store.restore_group("theirs") == [["theirs", None], [[["c", None], None]]]


@EVERYWHERE
def test_pickled_results_are_read_where_pickle_is_accepted(store: SqlBackend, url: str) -> None:
    stock = stock_at(url, result_serializer="pickle", accept_content=["pickle", "json"])
    with settings.override(RESULT_SERIALIZER="pickle", RESULT_ACCEPT_CONTENT=["pickle", "json"]):
        stock.backend.store_result("theirs", {1, 2}, "SUCCESS", request=Request())
        found = kept(store, "theirs")
        assert (found.value(), found.args) == ({1, 2}, "(1, 2)")
        stock.backend.mark_as_failure("failed", KeyError("k"))
        assert repr(kept(store, "failed").value()) == "KeyError('k')"
        packed = {"content_type": "application/x-python-serialize", "content_encoding": "binary"}
        wired = {"exc_type": "KeyError", "exc_message": ["k"], "exc_module": "builtins"}
        store.store_many(
            [
                document("ours", result=pickle.dumps({3}), name="shop.add", args="(1,)", **packed),
                document("our failure", states.FAILURE, result=pickle.dumps(wired), **packed),
            ]
        )
    theirs = stock.AsyncResult("ours")
    assert (theirs.get(timeout=5, interval=0.01), theirs.args) == ({3}, [1])
    with pytest.raises(KeyError):
        stock.AsyncResult("our failure").get(timeout=5, interval=0.01)
    with pytest.raises(ContentDisallowed):
        kept(store, "theirs").value()
    stock.close()


def test_rows_from_before_celery_5_7_hold_pickles_whatever_the_serializer(
    store: SqlBackend, database: sa.Connection
) -> None:
    database.execute(
        sa.text("INSERT INTO celery_taskmeta (task_id, status, result) VALUES ('old', 'SUCCESS', :result)"),
        {"result": pickle.dumps([1, 2])},
    )
    with pytest.raises(ContentDisallowed):
        kept(store, "old").value()
    with settings.override(RESULT_ACCEPT_CONTENT=["pickle", "json"]):
        assert kept(store, "old").value() == [1, 2]


# Tables


@EVERYWHERE
def test_columns_that_are_missing_are_added(url: str, database: sa.Connection, kind: str) -> None:
    number = "SERIAL" if kind == "postgresql" else "INTEGER"
    database.execute(
        sa.text(
            f"CREATE TABLE celery_taskmeta (id {number} PRIMARY KEY, task_id VARCHAR(155) UNIQUE,"
            " status VARCHAR(50), result TEXT, date_done TIMESTAMP NULL, traceback TEXT)"
        )
    )
    if kind == "postgresql":
        database.execute(sa.text("ALTER TABLE celery_taskmeta ALTER result TYPE bytea USING NULL"))
    database.execute(
        sa.text("INSERT INTO celery_taskmeta (id, task_id, status) VALUES (1000, 'old', 'SUCCESS')")
    )
    store = SqlBackend(url)
    assert kept(store, "old").status == states.SUCCESS
    store.store_many([document("old", states.FAILURE, starts=3)])
    assert kept(store, "old").status == states.SUCCESS
    columns = {column["name"] for column in sa.inspect(database).get_columns("celery_taskmeta")}
    assert {"name", "args", "kwargs", "worker", "retries", "queue", "children", "stamps"} <= columns
    store.close()


def test_tables_that_celery_made_are_used(stock: Any, url: str) -> None:
    stock.backend.store_result("theirs", 1, "SUCCESS")
    store = SqlBackend(url)
    store.store_many([document("ours", value=1)])
    assert stock.AsyncResult("ours").get(timeout=5, interval=0.01) == 1
    stock.backend.store_result("again", 1, "SUCCESS")
    assert len(store.fetch_many(["ours", "theirs", "again"])) == 3
    store.close()


@pytest.mark.parametrize("kind", ["postgresql"])
def test_names_and_schemas_of_tables_can_be_chosen(url: str, database: sa.Connection) -> None:
    database.execute(sa.text("DROP SCHEMA IF EXISTS results CASCADE"))
    database.execute(sa.text("CREATE SCHEMA results"))
    with settings.override(
        DATABASE_TABLE_NAMES={"task": "my_tasks", "group": "my_groups"},
        DATABASE_TABLE_SCHEMAS={"task": "results", "group": "results"},
    ):
        store = SqlBackend(url)
    store.store_many([document("a", value=1)])
    store.save_group("g", [["g", None], []])
    assert database.scalar(sa.text("SELECT count(*) FROM results.my_tasks")) == 1
    assert database.scalar(sa.text("SELECT count(*) FROM results.my_groups")) == 1
    store.close()
    database.execute(sa.text("DROP SCHEMA results CASCADE"))


def test_tables_are_made_at_once_or_when_they_are_needed(url: str, database: sa.Connection) -> None:
    with settings.override(DATABASE_CREATE_TABLES_AT_SETUP=False):
        store = SqlBackend(url)
    assert sa.inspect(database).get_table_names() == []
    assert store.fetch("a") is None
    assert "celery_taskmeta" in sa.inspect(database).get_table_names()
    store.close()
    empty_tables(url)
    SqlBackend(url).close()
    assert "celery_taskmeta" in sa.inspect(database).get_table_names()


def test_tables_that_were_dropped_are_made_again(store: SqlBackend, url: str) -> None:
    store.store_many([document("a", value=1)])
    empty_tables(url)
    store.store_many([document("b", value=1)])
    assert list(store.fetch_many(["a", "b"])) == ["b"]


# Connections

ENGINES: list[str] = []


def listen(engine: sa.Engine) -> None:
    """Note what an engine does."""

    def note(what: str) -> Any:
        return lambda *_: ENGINES.append(what)

    ENGINES.clear()
    for event in ("connect", "close"):
        sa.event.listen(engine, event, note(event))
    for event in ("begin", "commit"):
        sa.event.listen(engine, event, note(event))


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_batch_is_one_transaction(url: str) -> None:
    with settings.override(DATABASE_ENGINE_CALLBACK=f"{__name__}.listen"):
        store = SqlBackend(url)
    store.store_many([document(f"task-{number}", states.STARTED) for number in range(100)])
    ENGINES.clear()
    store.store_many([document(f"task-{number}") for number in range(50, 150)])
    assert ENGINES == ["begin", "commit"]
    store.close()


def test_the_callback_is_given_the_engine_or_is_refused(url: str) -> None:
    seen: list[sa.Engine] = []
    with settings.override(DATABASE_ENGINE_CALLBACK=seen.append):
        SqlBackend(url).close()
    assert isinstance(seen[0], sa.Engine)
    with (
        settings.override(DATABASE_ENGINE_CALLBACK="no.such.function"),
        pytest.raises(ImproperlyConfigured, match="DATABASE_ENGINE_CALLBACK"),
    ):
        SqlBackend(url)
    with (
        settings.override(DATABASE_ENGINE_OPTIONS={"pool_sise": 3}),
        pytest.raises(ImproperlyConfigured, match="pool_sise"),
    ):
        SqlBackend(url)


def test_short_lived_sessions_leave_no_connection_open(url: str) -> None:
    for short, closed in ((True, 1), (False, 0)):
        with settings.override(DATABASE_ENGINE_CALLBACK=listen, DATABASE_SHORT_LIVED_SESSIONS=short):
            store = SqlBackend(url)
            store.fetch("a")
            ENGINES.clear()
            store.fetch("a")
            assert ENGINES.count("close") == closed
            store.close()


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_no_connection_crosses_a_fork(url: str, kind: str) -> None:
    with settings.override(DATABASE_ENGINE_OPTIONS={"pool_size": 1, "max_overflow": 0}):
        store = SqlBackend(url)
        store.store_many([document("a", value=1)])

        def who() -> Any:
            ask = "SELECT pg_backend_pid()" if kind == "postgresql" else "SELECT CONNECTION_ID()"
            with store._engines.engine().connect() as connection:
                return connection.scalar(sa.text(ask))

        mine = who()
        child = os.fork()
        if not child:
            status = 1
            try:  # with nobody telling the store that this is another process
                store.store_many([document("b", value=2)])
                status = 0 if who() != mine and store.fetch("a") is not None else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert who() == mine
        assert kept(store, "b").value() == 2
        store.close()


# Trouble


def limit(engine: sa.Engine) -> None:
    """Let SQLite take no value of more than a hundred thousand bytes."""
    sa.event.listen(engine, "connect", lambda raw, _: raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000))


def test_a_result_that_sqlite_does_not_take_becomes_a_failure_that_says_so(url: str) -> None:
    with settings.override(DATABASE_ENGINE_CALLBACK=limit):
        store = SqlBackend(url)
        batch = [
            document("small", value=1),
            document("large", value="x" * 200_000),
            document("other", value=2),
        ]
        store.store_many(batch)
    found = store.fetch_many(["small", "large", "other"])
    assert [found[one].status for one in ("small", "large", "other")] == ["SUCCESS", "FAILURE", "SUCCESS"]
    assert "too large" in str(found["large"].value())
    store.close()


@pytest.mark.parametrize("kind", ["mariadb"])
def test_a_result_that_mariadb_does_not_take_becomes_a_failure_that_says_so(
    store: SqlBackend, database: sa.Connection
) -> None:
    most = database.scalar(sa.text("SELECT @@max_allowed_packet"))
    store.store_many([document("small", value=1), document("large", value="x" * (int(most or 0) + 1_000))])
    assert kept(store, "small").status == states.SUCCESS
    assert kept(store, "large").status == states.FAILURE
    assert "too large" in str(kept(store, "large").value())


@pytest.mark.parametrize("kind", ["mariadb"])
def test_so_does_one_that_does_not_fit_a_column_that_celery_made(stock: Any, url: str) -> None:
    stock.backend.store_result("theirs", 1, "SUCCESS")
    store = SqlBackend(url)
    store.store_many([document("small", value=1), document("large", value="x" * 70_000)])
    assert [kept(store, one).status for one in ("small", "large")] == ["SUCCESS", "FAILURE"]
    store.close()


@pytest.mark.parametrize("kind", ["postgresql"])
def test_a_server_that_is_away_is_told_of_and_may_come_back(url: str) -> None:
    proxy = Proxy(url)
    url = through(url, proxy)
    store = SqlBackend(url)
    store.store_many([document("a", value=1)])
    proxy.cut(refuse=True)
    with pytest.raises(BackendStoreError, match="could not be written") as caught:
        store.store_many([document("b", value="not for logs", name="not for logs")])
    assert (caught.value.task_id, caught.value.state) == ("b", states.SUCCESS)
    assert "not for logs" not in str(caught.value)
    with pytest.raises(BackendGetMetaError, match="could not be read"):
        store.fetch("a")
    proxy.heal()
    store.store_many([document("b", value=2)])
    assert len(store.fetch_many(["a", "b"])) == 2
    store.close()
    proxy.close()


@pytest.mark.parametrize("kind", ["mariadb"])
def test_a_traceback_that_does_not_fit_costs_nothing_but_itself(stock: Any, url: str) -> None:
    stock.backend.store_result("theirs", 1, "SUCCESS")
    store = SqlBackend(url)
    failed = document("failed", states.FAILURE, traceback="x" * 70_000, name="shop.add", args="(1,)")
    failed.result = '{"exc_type": "KeyError", "exc_message": ["k"], "exc_module": "builtins"}'
    store.store_many([document("other", value=1, name="shop.add"), failed])
    assert kept(store, "other").name == "shop.add"
    assert (repr(kept(store, "failed").value()), kept(store, "failed").traceback) == ("KeyError('k')", None)
    store.close()


def test_a_server_that_is_away_at_first_is_waited_for() -> None:
    store = SqlBackend(f"db+postgresql+psycopg://someone:secret@127.0.0.1:{free_port()}/results")
    assert store.as_uri().startswith("db+postgresql+psycopg://someone:**@127.0.0.1")
    with pytest.raises(BackendStoreError, match="could not be written") as caught:
        store.store_many([document("b")])
    assert "secret" not in str(caught.value)
    store.close()


def test_a_locked_file_is_waited_for_and_then_told_of(url: str, tmp_path: Path) -> None:
    with settings.override(DATABASE_ENGINE_OPTIONS={"connect_args": {"timeout": 0.1}}):
        store = SqlBackend(url)
        with sqlite3.connect(tmp_path / "results.sqlite3", isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(BackendStoreError, match="locked"):
                store.store_many([document("a")])
            other.execute("ROLLBACK")
        other.close()
        store.store_many([document("a")])
        assert store.fetch("a") is not None
        store.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("db+sqlite://", "one thread only"),
        ("db+sqlite:///:memory:", "one thread only"),
        ("db+nothing", "nothing that SQLAlchemy"),
        ("db+carrier-pigeon://host/name", "must be `db\\+` and a URL"),
        ("db+oracle+oracledb://scott:tiger@host/name", r"scott:\*\*@.*driver that is not installed"),
        ("database", "needs DATABASE_URL"),
    ],
)
def test_what_is_no_address_of_a_database_is_refused(url: str, says: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=says):
        SqlBackend(url)


def test_the_url_may_stand_in_a_setting_of_its_own(url: str, store: SqlBackend) -> None:
    with settings.override(DATABASE_URL=url.removeprefix("db+")):
        same = SqlBackend("database")
    same.store_many([document("a", value=1)])
    same.close()
    assert kept(store, "a").value() == 1
