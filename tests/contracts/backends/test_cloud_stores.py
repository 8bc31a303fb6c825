"""What the stores in Azure's and Google's storage have in common, asked of emulators in their place.

A stock Celery reads what we store there, and the other way round; for Google with the class below the one
that wants Firestore. That our writes name the generation they replace is proven here; that Google looks at
it is not, because the emulator from PyPI does not, and `google_storage.py` does it in its place.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from djqueue import states
from djqueue.conf import settings
from djqueue.result.contract import ResultBackend
from djqueue_results.backends.keyvalue.objects import ObjectStore
from tests.contracts.backends import places
from tests.support import clouds
from tests.support.results import document

ALL = pytest.mark.parametrize("kind", ["azure", "gs"])


@pytest.fixture
def place(kind: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the settings that lead to an empty place."""
    if kind == "gs":
        return clouds.google_settings(request.getfixturevalue("google_server").url)
    return clouds.azure_settings(request.getfixturevalue("azure_server").url)


@pytest.fixture
def store(place: dict[str, Any]) -> Iterator[ResultBackend]:
    with places.opened(place) as made:
        yield made


@pytest.fixture
def stock(place: dict[str, Any]) -> Iterator[Any]:
    with places.stock(place) as made:
        yield made


# With Celery


@ALL
def test_celery_reads_what_we_store_and_we_what_celery_stores(store: ResultBackend, stock: Any) -> None:
    store.store_many([document("ours", value={"a": ["æ", 1]}, children=[[["child", None], None]])])
    theirs = stock.AsyncResult("ours")
    assert theirs.get(timeout=5, interval=0.01) == {"a": ["æ", 1]}
    assert [child.id for child in theirs.children] == ["child"]
    stock.backend.store_result("theirs", [1, 2], "SUCCESS")
    stock.backend.mark_as_failure("failed", KeyError("k"), traceback="Traceback…")
    found = store.fetch_many(["theirs", "failed"])
    assert found["theirs"].value() == [1, 2]
    assert repr(found["failed"].value()) == "KeyError('k')"


@ALL
def test_celery_reads_what_we_store_whatever_is_said_of_compression(store: ResultBackend, stock: Any) -> None:
    with settings.override(RESULT_COMPRESSION="zlib"):
        store.store_many([document("ours", value="æ" * 1000)])
        store.save_group("g", [["g", None], []])
    assert stock.AsyncResult("ours").get(timeout=5, interval=0.01) == "æ" * 1000
    assert store.restore_group("g") == [["g", None], []]


@ALL
def test_a_success_by_either_is_final_for_the_other(store: ResultBackend, stock: Any) -> None:
    stock.backend.store_result("theirs", 1, "SUCCESS")
    store.store_many([document("theirs", states.FAILURE, starts=3), document("ours", value=1)])
    stock.backend.store_result("ours", ValueError("late"), "FAILURE")
    assert [found.status for found in store.fetch_many(["theirs", "ours"]).values()] == ["SUCCESS"] * 2


@ALL
def test_groups_are_kept_as_celery_keeps_them(store: ResultBackend, stock: Any) -> None:
    members = [["group", None], [[["a", None], None], [["b", None], None]]]
    store.save_group("group", members)
    assert [one.id for one in stock.GroupResult.restore("group")] == ["a", "b"]
    stock.GroupResult("theirs", [stock.AsyncResult("c")]).save()
    assert store.restore_group("theirs") == [["theirs", None], [[["c", None], None]]]
    store.delete_group("theirs")
    assert store.restore_group("theirs") is None


@ALL
@pytest.mark.parametrize("task_id", ["a/b c", "æ?x=1#y", "100%", "dot.in.it", "a:b@c"])
def test_unusual_ids_stand_in_keys_as_celery_has_them(store: ResultBackend, stock: Any, task_id: str) -> None:
    store.store_many([document(task_id, value=1)])
    assert stock.AsyncResult(task_id).get(timeout=5, interval=0.01) == 1


@ALL
@pytest.mark.parametrize("task_id", ["a\\b", "..", "a/../b", "a//b", "dot.", "a/", "line\nbreak", "x" * 900])
def test_ids_that_no_key_can_have_are_kept_all_the_same(store: ResultBackend, task_id: str) -> None:
    store.store_many([document(task_id, value=1), document("a/b", value=2), document("b", value=3)])
    assert {one: found.value() for one, found in store.fetch_many([task_id, "a/b", "b"]).items()} == {
        task_id: 1,
        "a/b": 2,
        "b": 3,
    }


# Writers at the same time


@ALL
def test_what_was_written_since_one_looked_is_looked_at(store: ResultBackend) -> None:
    """Somebody writes between the look and the write of another: the latter looks again."""
    assert isinstance(store, ObjectStore)
    seen: list[bytes | None] = []

    def decide(kept: bytes | None) -> bytes | None:
        seen.append(kept)
        if len(seen) < 3:
            store.change("key", lambda _: f"other {len(seen)}".encode(), 0)
        return b"mine"

    store.change("key", decide, 0)
    assert seen == [None, b"other 1", b"other 2"]
    assert store.read(["key"]) == {"key": b"mine"}


@ALL
def test_what_was_deleted_since_one_looked_is_looked_at(store: ResultBackend) -> None:
    assert isinstance(store, ObjectStore)
    store.change("key", lambda _: b"first", 0)
    seen: list[bytes | None] = []

    def decide(kept: bytes | None) -> bytes | None:
        seen.append(kept)
        store.remove(["key"])
        return b"mine"

    store.change("key", decide, 0)
    assert seen == [b"first", None]


@ALL
def test_of_many_writers_the_newest_attempt_is_left(store: ResultBackend) -> None:
    def write(number: int) -> None:
        store.store_many([document("a", states.FAILURE, retries=number, value=number)])

    threads = [threading.Thread(target=write, args=[number]) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = store.fetch("a")
    assert kept is not None
    assert kept.retries == 11


@ALL
def test_a_forked_process_makes_connections_of_its_own(store: ResultBackend) -> None:
    store.store_many([document("a", value=1)])
    child = os.fork()
    if not child:
        status = 1
        try:
            store.store_many([document("b", value=2)])
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert list(store.fetch_many(["a", "b"])) == ["a", "b"]
