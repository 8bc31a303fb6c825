"""What the store in MongoDB does beyond the contract: bulks, refusals, and servers that are away.

None of this was run against a real server: mongomock is in its place. Where nobody answers, the client is
PyMongo's own.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from threading import Event
from typing import Any

import mongomock
import pytest
from pymongo.errors import AutoReconnect, BulkWriteError, DuplicateKeyError, OperationFailure

from djqueue import chord, states
from djqueue.conf import settings
from djqueue.exceptions import BackendGetMetaError, BackendStoreError
from djqueue.result import backends
from djqueue_results.backends.mongodb import store as store_module
from djqueue_results.backends.mongodb.documents import DEEPEST
from djqueue_results.backends.mongodb.store import MongoBackend
from tests.project import tasks
from tests.support import mongo
from tests.support.results import document
from tests.support.servers import free_port
from tests.support.waiting import wait_until

URL = "mongodb://localhost/results"
PASSWORD = "not-for-logs"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> mongo.StandIn:
    return mongo.stand_in(monkeypatch)


@pytest.fixture
def store(server: mongo.StandIn) -> Iterator[MongoBackend]:
    with closing(MongoBackend(URL)) as made:
        yield made


@pytest.fixture
def raw(server: mongo.StandIn) -> Any:
    """Return the database beside the store."""
    return server(host="localhost")["results"]


# What is written


def test_old_documents_are_found_by_an_index(store: MongoBackend, raw: Any) -> None:
    store.store_many([document("a")])
    for name in ("celery_taskmeta", "celery_groupmeta"):
        assert raw[name].index_information()["date_done_1"]["key"] == [("date_done", 1)]


def test_batches_are_one_bulk_and_many_results_one_query(
    store: MongoBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    bulks, queries = [], []
    bulk_write, find = mongomock.Collection.bulk_write, mongomock.Collection.find

    def counted_bulk(self: Any, steps: Any, **told: Any) -> Any:
        bulks.append(len(steps))
        return bulk_write(self, steps, **told)

    def counted_find(self: Any, which: Any, *told: Any) -> Any:
        queries.append(which)
        return find(self, which, *told)

    monkeypatch.setattr(mongomock.Collection, "bulk_write", counted_bulk)
    monkeypatch.setattr(mongomock.Collection, "find", counted_find)
    store.store_many([document(f"task-{number}") for number in range(50)])
    # What the next one of the same task replaces anyhow is not even sent.
    store.store_many([document("a", states.STARTED), document("a"), document("b")])
    assert bulks == [50, 2]
    assert len(store.fetch_many([f"task-{number}" for number in range(50)])) == 50
    assert len(queries) == 1


def test_of_two_who_store_the_first_document_of_a_task_both_are_heard(
    store: MongoBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody inserts the task between our look and our insertion: what we have is newer, and is written."""
    bulk_write = mongomock.Collection.bulk_write
    raced: list[int] = []

    def racing(self: Any, steps: Any, **told: Any) -> Any:
        if not raced:
            raced.append(1)
            self.insert_one({"_id": "a", "status": "STARTED", "result": "1"})
            errors = [{"index": 0, "code": 11000, "errmsg": "E11000 duplicate key error"}]
            raise BulkWriteError({"writeErrors": errors, "writeConcernErrors": []})
        return bulk_write(self, steps, **told)

    monkeypatch.setattr(mongomock.Collection, "bulk_write", racing)
    store.store_many([document("a", value="ours"), document("b", value="too")])
    kept = store.fetch("a")
    assert kept is not None
    assert kept.result == '"ours"'


def test_a_group_that_another_saves_in_the_same_moment_is_saved(
    store: MongoBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_one = mongomock.Collection.replace_one
    times: list[int] = []

    def racing(self: Any, *told: Any, **options: Any) -> Any:
        times.append(1)
        if len(times) <= fails:
            raise DuplicateKeyError("E11000")
        return replace_one(self, *told, **options)

    fails = 1
    monkeypatch.setattr(mongomock.Collection, "replace_one", racing)
    store.save_group("g", [["g", None], []])
    assert store.restore_group("g") == [["g", None], []]
    fails = 9
    with pytest.raises(BackendStoreError, match="E11000"):
        store.save_group("g", [["g", None], []])


def test_a_result_that_is_too_large_becomes_a_failure_that_says_so(store: MongoBackend) -> None:
    large = document("large", value="x" * 17_000_000)
    store.store_many([document("a"), large, document("b")])
    found = store.fetch_many(["a", "large", "b"])
    assert [found[name].status for name in ("a", "large", "b")] == ["SUCCESS", "FAILURE", "SUCCESS"]
    assert "too large for mongodb://localhost/results" in str(found["large"].value())


def test_a_traceback_that_is_too_large_does_not_take_the_result_with_it(store: MongoBackend) -> None:
    store.store_many([document("a", value=1, traceback="x" * 17_000_000, name="shop.tasks.add")])
    kept = store.fetch("a")
    assert kept is not None
    assert (kept.value(), kept.traceback) == (1, None)


def test_what_the_server_refuses_becomes_a_failure(
    store: MongoBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    bulk_write = mongomock.Collection.bulk_write

    def strict(self: Any, steps: Any, **told: Any) -> Any:
        bad = [n for n, step in enumerate(steps) if never or "bad" in str(step._doc["result"])]
        if bad:
            good = [step for number, step in enumerate(steps) if number not in bad]
            if good:
                bulk_write(self, good, **told)
            errors = [{"index": n, "code": 121, "errmsg": "Document failed validation"} for n in bad]
            raise BulkWriteError({"writeErrors": errors, "writeConcernErrors": []})
        return bulk_write(self, steps, **told)

    never = False
    monkeypatch.setattr(mongomock.Collection, "bulk_write", strict)
    store.store_many([document("a", value="good"), document("b", value="bad", name="n"), document("c")])
    found = store.fetch_many(["a", "b", "c"])
    assert {name: one.status for name, one in found.items()} == {
        "a": "SUCCESS",
        "b": "FAILURE",
        "c": "SUCCESS",
    }
    assert "Document failed validation" in str(found["b"].value())
    never = True
    with pytest.raises(BackendStoreError, match="Document failed validation"):
        store.store_many([document("d")])


def test_values_that_mongodb_cannot_hold_come_back_all_the_same(store: MongoBackend) -> None:
    deep = "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1)
    for number, args in enumerate([f"({2**70},)", f"({deep},)", "({'nul\\x00': 1},)", "('\\ud800',)"]):
        children = [[[f"child-{number}-\ud800", None], None]]
        strange = document(f"task-{number}", name="n", args=args, kwargs="{}", children=children)
        strange.stamps = '{"customer": "c", "$set": 1, "a.b": 2, "_id": 3, "status": 4}'
        store.store_many([strange])
        kept = store.fetch(f"task-{number}")
        assert kept is not None
        assert (kept.status, kept.children, kept.stamps) == ("SUCCESS", children, '{"customer": "c"}')
        assert kept.args == args


# Cleaning up


def test_more_documents_than_one_request_takes_are_cleaned_up(
    store: MongoBackend, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "AT_ONCE", 7)
    store.store_many([document(f"task-{number}", date_done=time.time()) for number in range(30)])
    store.save_group("group", [["group", None], []])
    stored_by = time.time()
    raw.celery_taskmeta.insert_one({"_id": "theirs", "status": "STARTED", "date_done": None})
    with settings.override(RESULT_EXPIRES=0.01):
        wait_until(lambda: time.time() > stored_by + 0.05, 5, "for the results to expire")
        assert store.clean_up() == 30
    assert store.restore_group("group") is None
    # Celery does not say when it wrote what has not ended, and leaves it, too.
    assert list(store.fetch_many(["task-1", "theirs"])) == ["theirs"]
    with settings.override(RESULT_EXPIRES=10**12):
        assert store.clean_up() == 0


# Processes


@pytest.mark.parametrize("is_told", [True, False])
def test_a_forked_process_makes_a_client_of_its_own(
    store: MongoBackend, server: mongo.StandIn, is_told: bool
) -> None:
    store.store_many([document("a")])
    before = len(server.made)
    child = os.fork()
    if not child:
        status = 1
        try:
            if is_told:
                store.after_fork()
            store.store_many([document("b")])
            inherited = len(store._client._inherited)
            store.close()
            status = 0 if (len(server.made), inherited) == (before + 1, 1) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.fetch("a") is not None
    assert len(server.made) == before


# Trouble


def test_a_server_that_is_away_is_told_of_soon_and_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    url = f"mongodb://user:{PASSWORD}@127.0.0.1:{free_port()}/results"
    with closing(MongoBackend(url)) as store:
        assert store.as_uri().startswith("mongodb://127.0.0.1:")
        begun = time.monotonic()
        with pytest.raises(BackendStoreError, match=r"2 tasks could not be written to .* refused") as caught:
            store.store_many([document("a"), document("b")])
        assert 4 < time.monotonic() - begun < 9
    assert (caught.value.task_id, caught.value.state) == ("a", states.SUCCESS)
    assert PASSWORD not in str(caught.value) + str(caught.value.__cause__) + caplog.text


def test_whoever_says_how_long_to_look_for_a_server_is_heeded(server_port: int) -> None:
    for option in ("serverSelectionTimeoutMS", "timeoutMS"):
        with closing(MongoBackend(f"mongodb://127.0.0.1:{server_port}/results?{option}=300")) as store:
            for work, error in [
                (lambda: store.fetch("a"), BackendGetMetaError),
                (lambda: store.forget_many(["a"]), BackendStoreError),
                (lambda: store.save_group("g", [["g", None], []]), BackendStoreError),
                (lambda: store.restore_group("g"), BackendGetMetaError),
                (lambda: store.delete_group("g"), BackendStoreError),
                (store.clean_up, BackendStoreError),
            ]:
                begun = time.monotonic()
                with pytest.raises(error, match=r"127\.0\.0\.1"):
                    work()
                assert time.monotonic() - begun < 3


@pytest.fixture
def server_port() -> int:
    """Return a port on which nobody listens."""
    return free_port()


def test_a_server_that_says_nothing_is_not_waited_for_longer_than_that() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"mongodb://127.0.0.1:{silent.getsockname()[1]}/?connectTimeoutMS=300&serverSelectionTimeoutMS=900"
        with closing(MongoBackend(address)) as store:
            begun = time.monotonic()
            with pytest.raises(BackendStoreError, match="could not be written"):
                store.store_many([document("a")])
            assert time.monotonic() - begun < 5


def test_what_the_server_says_is_told_without_the_documents(
    store: MongoBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = [
        BulkWriteError({"writeErrors": [{"index": 0, "code": 13, "errmsg": "not allowed", "op": PASSWORD}]}),
        BulkWriteError(
            {"writeErrors": [], "writeConcernErrors": [{"code": 64, "errmsg": "waiting timed out"}]}
        ),
        OperationFailure("bad login", 18, {"errmsg": "Authentication failed.", "secret": PASSWORD}),
    ]
    for refusal, says in zip(
        refusals, ["not allowed", "waiting timed out", "Authentication failed"], strict=True
    ):

        def refuse(*_: Any, refusal: Exception = refusal, **__: Any) -> None:
            raise refusal

        monkeypatch.setattr(mongomock.Collection, "bulk_write", refuse)
        with pytest.raises(BackendStoreError, match=says) as caught:
            store.store_many([document("a")])
        assert PASSWORD not in str(caught.value)


# Workers


@pytest.fixture
def worker(transactional_db: None, server: mongo.StandIn, djqueue_worker: Any) -> Iterator[Any]:
    """Return a worker in this process, which keeps results in MongoDB."""
    backends.reset()
    with settings.override(RESULT_BACKEND=URL, RESULT_CHORD_RETRY_INTERVAL=0.05):
        yield djqueue_worker
        backends.reset()


def test_a_worker_holds_on_to_what_ended_while_the_server_is_away(
    worker: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    bulk_write = mongomock.Collection.bulk_write
    away = Event()
    away.set()

    def cut(self: Any, steps: Any, **told: Any) -> Any:
        if away.is_set():
            raise AutoReconnect("connection closed")
        return bulk_write(self, steps, **told)

    monkeypatch.setattr(mongomock.Collection, "bulk_write", cut)
    with worker.running():
        result = tasks.add.delay(1, 2)
        wait_until(lambda: "djq.result.deferred" in caplog.text, 20, "for the worker to notice")
        assert "connection closed" in caplog.text
        assert result.state == "PENDING"
        away.clear()
        assert result.get(timeout=20) == 3


def test_a_chord_is_completed_by_a_task_that_asks(worker: Any, raw: Any) -> None:
    with worker.running():
        body = chord([tasks.add.s(number, 1) for number in range(3)])(tasks.total.s())
        assert body.get(timeout=20) == 6
    assert raw.celery_taskmeta.count_documents({"status": "SUCCESS"}) >= 4
