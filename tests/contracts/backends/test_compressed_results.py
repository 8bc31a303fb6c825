"""Compressed results in Redis: Celery's bytes, and the rules about late writes where no script can read them.

A stock Celery reads what we compress, and we what it compresses, whatever either is told to write.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery

from djqueue import states
from djqueue.conf import settings
from djqueue.core.names import new_id
from djqueue.result.chords import ChordOpening, ChordPart
from djqueue.result.documents import encode_value
from djqueue_results.backends.redis import RedisBackend
from tests.support.results import document
from tests.support.servers import Server

#: Celery's own business
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex")

BEGIN = b"\0celery-compressed\0application/x-gzip\0"


@pytest.fixture
def client(redis_server: Server) -> Iterator[Any]:
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushdb()
        yield client


@pytest.fixture
def store(redis_server: Server, client: Any) -> Iterator[RedisBackend]:
    made = RedisBackend(redis_server.url)
    with settings.override(RESULT_COMPRESSION="zlib"):
        yield made
    made.close()


@pytest.fixture
def stock(redis_server: Server) -> Iterator[Any]:
    app = Celery("stock", backend=redis_server.url, set_as_current=False, fixups=[])
    app.conf.result_compression = "zlib"
    yield app
    app.backend.result_consumer.stop()
    app.backend.client.close()
    app.close()


def state(store: RedisBackend, task_id: str = "a") -> str:
    """Return the state that is stored."""
    found = store.fetch(task_id)
    assert found is not None
    return found.status


def test_the_bytes_are_celerys(store: RedisBackend, client: Any) -> None:
    store.store_many([document("a", value=[1, 2])])
    stored = client.get("celery-task-meta-a")
    assert stored.startswith(BEGIN)
    assert json.loads(zlib.decompress(stored.removeprefix(BEGIN)))["result"] == [1, 2]


@pytest.mark.parametrize("name", ["zlib", "gzip", "bzip2", "lzma"])
def test_celery_reads_ours_and_we_read_celerys(store: RedisBackend, stock: Any, name: str) -> None:
    stock.conf.result_compression = name
    with settings.override(RESULT_COMPRESSION=name):
        store.store_many([document("ours", value={"a": ["æ" * 500]}, children=[[["child", None], None]])])
        stock.backend.store_result("theirs", [1, 2], "SUCCESS")
    theirs = stock.AsyncResult("ours")
    assert theirs.get(timeout=5) == {"a": ["æ" * 500]}
    assert [child.id for child in theirs.children] == ["child"]
    with settings.override(RESULT_COMPRESSION=None):
        found = store.wait("theirs", timeout=5)
    assert found is not None
    assert found.value() == [1, 2]


def test_who_waits_is_told_in_the_same_bytes(store: RedisBackend, client: Any) -> None:
    task_id = new_id()
    with client.pubsub() as heard:
        heard.subscribe(f"celery-task-meta-{task_id}")
        assert heard.get_message(timeout=5)["type"] == "subscribe"
        store.store_many([document(task_id, value=1)])
        assert heard.get_message(timeout=5)["data"] == client.get(f"celery-task-meta-{task_id}")


def test_what_would_inflate_too_far_to_be_read_stays_as_it_is(store: RedisBackend, client: Any) -> None:
    store.store_many([document("a", value="x" * 4_000_000), document("b", value="xy" * 400_000)])
    assert client.get("celery-task-meta-a").startswith(b"{")
    assert client.get("celery-task-meta-b").startswith(BEGIN)
    assert [len(one.value()) for one in store.fetch_many(["a", "b"]).values()] == [4_000_000, 800_000]


# What is late, where the script cannot read what it would replace


def test_a_compressed_success_by_celery_is_final(store: RedisBackend, stock: Any) -> None:
    stock.backend.store_result("a", 1, "SUCCESS")
    store.store_many([document("a", states.FAILURE, starts=3), document("b")])
    assert (state(store), state(store, "b")) == (states.SUCCESS, states.SUCCESS)


def test_other_compressed_states_by_celery_give_way(store: RedisBackend, stock: Any, client: Any) -> None:
    stock.backend.store_result("a", {"pid": 1}, "STARTED")
    assert client.get("celery-task-meta-a").startswith(BEGIN)
    store.store_many([document("a", value=1)])
    stock.backend.store_result("b", ValueError("x"), "FAILURE")
    store.store_many([document("b", states.STARTED)])
    assert (state(store), state(store, "b")) == (states.SUCCESS, states.FAILURE)
    store.store_many([document("b", states.STARTED, starts=1)])
    assert state(store, "b") == states.STARTED


def test_a_document_that_comes_between_looking_and_replacing_is_looked_at_as_well(
    store: RedisBackend, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.store_many([document("a", states.FAILURE)])
    look = store._not_late
    between = [document("a", states.FAILURE, starts=3)]

    def looked(portion: Any) -> Any:
        found = look(portion)
        if between:
            store.store_many([between.pop()])
        return found

    monkeypatch.setattr(store, "_not_late", looked)
    store.store_many([document("a", value="late", starts=2)])
    assert state(store) == states.FAILURE
    store.store_many([document("a", value="newer", starts=4)])
    assert state(store) == states.SUCCESS


def test_damaged_documents_stop_nobody(store: RedisBackend, client: Any) -> None:
    client.set("celery-task-meta-a", BEGIN + b"no such thing")
    client.set("celery-task-meta-b", b"\0celery-compressed\0application/x-unknown\0xyz")
    store.store_many([document("a"), document("b")])
    assert (state(store), state(store, "b")) == (states.SUCCESS, states.SUCCESS)


# Chords


def test_parts_of_chords_are_compressed_as_well(store: RedisBackend, client: Any) -> None:
    store.open_chords(
        [ChordOpening("g", 2, members=[["g", None], [[["x", None], None], [["y", None], None]]])]
    )
    ends = [
        ChordPart("g", name, place, states.SUCCESS, *encode_value(name * 100))
        for place, name in enumerate(("x", "y"))
    ]
    assert store.count_parts(ends[:1]) == []
    assert client.get("celery-taskset-meta-g").startswith(BEGIN)
    assert client.zrange("celery-taskset-meta-g.j", 0, 0)[0].startswith(BEGIN)
    (count,) = store.count_parts(ends[1:])
    assert [part.value() for part in count.parts or ()] == ["x" * 100, "y" * 100]
    assert count.members[0] == ["g", None]
