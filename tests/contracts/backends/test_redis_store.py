"""What the Redis store does beyond the contract: Celery's keys and messages, expiry, waiting without asking.

A stock Celery reads what we store and is woken by it, and the other way round; servers stop and come back.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery

from djqueue import states
from djqueue.conf import settings
from djqueue.core.names import new_id
from djqueue.exceptions import BackendGetMetaError, BackendStoreError
from djqueue.result.chords import ChordOpening, ChordPart
from djqueue.result.documents import encode_value
from djqueue_results.backends.redis import RedisBackend
from tests.support.proxy import Proxy
from tests.support.results import document
from tests.support.servers import PrivateServer, Server, missing, provide
from tests.support.waiting import wait_until

#: Celery's own business
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex")


@pytest.fixture
def client(redis_server: Server) -> Iterator[Any]:
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        client.flushdb()
        yield client


@pytest.fixture
def store(redis_server: Server, client: Any) -> Iterator[RedisBackend]:
    made = RedisBackend(redis_server.url)
    yield made
    made.close()


@pytest.fixture
def task_id() -> str:
    """Return an id that nobody else waits for: channels are the server's, whatever the database number."""
    return new_id()


@pytest.fixture
def own_server(redis_server: Server) -> None:
    """Ask for a server on which nobody else counts: some figures are the whole server's."""
    if not isinstance(redis_server, PrivateServer):
        missing("This counts what a whole Redis does, and needs one of its own: redis-server on PATH.")


@pytest.fixture
def stock(redis_server: Server) -> Iterator[Any]:
    app = Celery("stock", backend=redis_server.url, set_as_current=False, fixups=[])
    yield app
    app.backend.result_consumer.stop()
    app.backend.client.close()
    app.close()


def test_key_and_lifetime_are_celerys(store: RedisBackend, client: Any) -> None:
    store.store_many([document("a", value=1)])
    assert client.keys("*") == ["celery-task-meta-a"]
    assert 86_000 < client.ttl("celery-task-meta-a") <= 86_400
    with settings.override(RESULT_EXPIRES=None):
        store.store_many([document("b", value=1)])
    assert client.ttl("celery-task-meta-b") == -1
    with settings.override(RESULT_EXPIRES=0.01):
        store.store_many([document("c", value=1)])
    wait_until(lambda: store.fetch("c") is None, 5, "for it to expire")


def test_what_is_counted_of_a_chord_has_a_lifetime_of_its_own(store: RedisBackend, client: Any) -> None:
    with settings.override(RESULT_CHORD_EXPIRES=50):
        store.open_chords([ChordOpening("chord", 2)])
    store.open_chords([ChordOpening("other", 2)])
    assert 40 < client.ttl("celery-taskset-meta-chord.s") <= 50
    assert 86_000 < client.ttl("celery-taskset-meta-other.s") <= 86_400


def test_failures_have_a_lifetime_of_their_own(store: RedisBackend, client: Any) -> None:
    with settings.override(RESULT_FAILURE_EXPIRES=50):
        store.store_many([document("a"), document("b", states.FAILURE), document("c", states.STARTED)])
    with settings.override(RESULT_FAILURE_EXPIRES=0):
        store.store_many([document("d", states.FAILURE)])
    store.store_many([document("e", states.FAILURE)])
    lifetimes = {key: client.ttl(f"celery-task-meta-{key}") for key in "abcde"}
    assert 40 < lifetimes.pop("b") <= 50
    assert lifetimes.pop("d") == -1
    assert all(86_000 < seconds <= 86_400 for seconds in lifetimes.values())


def test_a_result_that_redis_does_not_take_becomes_a_failure_that_says_so(
    store: RedisBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djqueue_results.backends.redis.LARGEST_VALUE", 1000)
    store.store_many([document("large", value="x" * 1000), document("small", value=1)])
    found = store.fetch_many(["large", "small"])
    assert found["small"].value() == 1
    assert found["large"].status == states.FAILURE
    assert isinstance(found["large"].value(), BackendStoreError)
    assert "too large" in str(found["large"].value())


def count(store: RedisBackend, number: int) -> list[Any]:
    """Count a part of the chord; return the results of a complete one."""
    ended = ChordPart("g", f"g-{number}", number, states.SUCCESS, *encode_value(number))
    counts = store.count_parts([ended])
    return [one.value() for one in counts[0].parts or ()] if counts else []


@pytest.mark.parametrize(
    ("in_order", "kind", "expected"), [(True, "zset", [0, 1, 2]), (False, "list", [2, 0, 1])]
)
def test_results_of_a_chord_come_in_order_or_as_they_came(
    redis_server: Server, client: Any, in_order: bool, kind: str, expected: list[int]
) -> None:
    with settings.override(RESULT_BACKEND_TRANSPORT_OPTIONS={"result_chord_ordered": in_order}):
        store = RedisBackend(redis_server.url)
    store.open_chords([ChordOpening("g", 3)])
    assert [count(store, number) for number in (2, 0)] == [[], []]
    assert client.type("celery-taskset-meta-g.j") == kind
    assert count(store, 1) == expected
    store.close()


def test_the_prefix_is_that_of_groups_and_chords_as_well(redis_server: Server, client: Any) -> None:
    with settings.override(RESULT_BACKEND_TRANSPORT_OPTIONS={"global_keyprefix": "shop"}):
        store = RedisBackend(redis_server.url)
    store.save_group("g", [["g", None], []])
    store.open_chords([ChordOpening("g", 2)])
    count(store, 0)
    assert {key.partition("-")[0] for key in client.keys("*")} == {"shop_celery"}
    assert len(client.keys("shop_celery-taskset-meta-g*")) == 4
    store.close()


@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        ("shop", "shop_celery-task-meta-a"),
        ("shop:", "shop:celery-task-meta-a"),
        ("s.", "s.celery-task-meta-a"),
    ],
)
def test_the_prefix_is_celerys(redis_server: Server, client: Any, prefix: str, key: str) -> None:
    with settings.override(RESULT_BACKEND_TRANSPORT_OPTIONS={"global_keyprefix": prefix}):
        store = RedisBackend(redis_server.url)
    store.store_many([document("a", value=1)])
    assert client.keys("*") == [key]
    assert store.fetch("a") is not None
    store.close()


def test_celery_reads_what_we_store_and_we_what_celery_stores(store: RedisBackend, stock: Any) -> None:
    store.store_many([document("ours", value={"a": [1]}, children=[[["child", None], None]])])
    theirs = stock.AsyncResult("ours")
    assert theirs.get(timeout=5) == {"a": [1]}
    assert [child.id for child in theirs.children] == ["child"]
    stock.backend.store_result("theirs", [1, 2], "SUCCESS")
    found = store.fetch("theirs")
    assert found is not None
    assert found.value() == [1, 2]
    try:
        raise KeyError("k")
    except KeyError as error:
        stock.backend.mark_as_failure("failed", error, traceback="Traceback…")
    failed = store.wait("failed", timeout=5)
    assert failed is not None
    assert isinstance(failed.value(), KeyError)


def test_a_success_by_celery_is_final(store: RedisBackend, stock: Any) -> None:
    stock.backend.store_result("a", 1, "SUCCESS")
    store.store_many([document("a", states.FAILURE, retries=3)])
    found = store.fetch("a")
    assert found is not None
    assert found.status == states.SUCCESS


def test_other_ends_by_celery_give_way_to_newer_attempts(store: RedisBackend, stock: Any) -> None:
    stock.backend.store_result("a", ValueError("x"), "FAILURE")
    store.store_many([document("a", states.STARTED)])
    assert store.fetch_many(["a"])["a"].status == states.FAILURE
    store.store_many([document("a", states.STARTED, starts=1)])
    assert store.fetch_many(["a"])["a"].status == states.STARTED


def test_retries_that_celery_kept_are_compared(store: RedisBackend, client: Any) -> None:
    kept = '{"status": "SUCCESS", "result": 1, "retries": 1, "queue": "q", "task_id": "a"}'
    client.set("celery-task-meta-a", kept)
    store.store_many([document("a", states.FAILURE, retries=1, starts=3)])
    assert client.get("celery-task-meta-a") == kept
    store.store_many([document("a", states.STARTED, retries=2)])
    assert json.loads(client.get("celery-task-meta-a"))["status"] == states.STARTED


@pytest.mark.parametrize("spacing", [(", ", ": "), (",", ":")])
def test_the_state_is_found_wherever_it_stands(
    store: RedisBackend, client: Any, spacing: tuple[str, str]
) -> None:
    kept = json.dumps({"task_id": "a", "result": "x" * 100, "status": "SUCCESS"}, separators=spacing)
    client.set("celery-task-meta-a", kept)
    store.store_many([document("a", states.FAILURE)])
    assert client.get("celery-task-meta-a") == kept


def test_each_state_is_published_once_as_it_is_stored(store: RedisBackend, client: Any, task_id: str) -> None:
    with client.pubsub() as heard:
        heard.subscribe(f"celery-task-meta-{task_id}")
        assert heard.get_message(timeout=5)["type"] == "subscribe"
        store.store_many([document(task_id, states.STARTED), document(task_id, value=1)])
        store.store_many([document(task_id, value=1), document(task_id, states.STARTED)])  # too late, both
        messages = [heard.get_message(timeout=0.2) for _ in range(3)]
    assert [json.loads(one["data"])["status"] for one in messages if one] == ["STARTED", "SUCCESS"]
    assert messages[1]["data"] == client.get(f"celery-task-meta-{task_id}")


# Waiting


def wait_in_thread(
    store: RedisBackend, task_id: str, timeout: float = 20
) -> tuple[threading.Thread, list[Any]]:
    """Wait in a thread; return it, and the list that the result is put into."""
    found: list[Any] = []

    def wait() -> None:
        found.append(store.wait(task_id, timeout))

    thread = threading.Thread(target=wait)
    thread.start()
    return thread, found


def test_who_waits_is_woken_and_asks_nothing_meanwhile(
    store: RedisBackend, client: Any, own_server: None
) -> None:
    client.config_resetstat()
    thread, found = wait_in_thread(store, "a")
    wait_until(lambda: "cmdstat_mget" in client.info("commandstats"), 5, "for the waiter to have looked once")
    client.config_resetstat()
    quiet_until = time.monotonic() + 0.5
    wait_until(lambda: time.monotonic() > quiet_until, 5, "a moment")
    asked = client.info("commandstats")
    assert "cmdstat_get" not in asked
    assert "cmdstat_mget" not in asked
    stored_at = time.monotonic()
    store.store_many([document("a", states.STARTED), document("a", value=7)])
    thread.join()
    assert time.monotonic() - stored_at < 0.5
    assert found[0].value() == 7
    assert client.pubsub_channels() == []


def test_what_was_stored_before_is_not_waited_for(store: RedisBackend) -> None:
    store.store_many([document("a", value=7)])
    begun = time.monotonic()
    assert store.wait("a", timeout=5) is not None
    assert store.wait("a", timeout=0) is not None
    assert store.wait("unknown", timeout=0) is None
    assert time.monotonic() - begun < 1


def test_a_hundred_who_wait_each_get_their_own(store: RedisBackend, client: Any, own_server: None) -> None:
    waiting = [wait_in_thread(store, str(number)) for number in range(100)]
    wait_until(lambda: len(client.pubsub_channels()) == 100, 20, "for all of them")
    store.store_many([document(str(number), value=number) for number in range(100)])
    for thread, _ in waiting:
        thread.join()
    assert [found[0].value() for _, found in waiting] == list(range(100))


def test_who_waits_outlives_a_server_that_starts_again() -> None:
    server = provide("redis")
    store = RedisBackend(server.url)
    try:
        thread, found = wait_in_thread(store, "a", timeout=30)
        with redis.Redis.from_url(server.url) as client:
            wait_until(lambda: client.pubsub_numsub("celery-task-meta-a")[0][1] == 1, 5, "for the waiter")
        server.restart()
        RedisBackend(server.url).store_many([document("a", value=7)])
        stored_at = time.monotonic()
        thread.join()
        assert time.monotonic() - stored_at < 2
        assert found[0].value() == 7
    finally:
        store.close()
        server.close()


def test_who_waits_notices_what_an_unheard_connection_missed(
    redis_server: Server, store: RedisBackend, task_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djqueue_results.backends.redis.LOOK_AGAIN", 0.2)
    thread, found = wait_in_thread(store, task_id)
    with redis.Redis.from_url(redis_server.url) as client:
        wait_until(
            lambda: client.pubsub_numsub(f"celery-task-meta-{task_id}")[0][1] == 1, 5, "for the waiter"
        )
        client.set(
            f"celery-task-meta-{task_id}", '{"status": "SUCCESS", "result": 7}'
        )  # and nothing is published
    thread.join()
    assert found[0].value() == 7


def test_a_server_that_is_away_is_said_to_be(redis_server: Server, client: Any) -> None:
    proxy = Proxy(redis_server.url)
    store = RedisBackend(proxy.url)
    store.store_many([document("a", value=7)])
    proxy.cut(refuse=True)
    with pytest.raises(BackendStoreError, match="could not be written") as caught:
        store.store_many([document("b")])
    assert (caught.value.task_id, caught.value.state) == ("b", states.SUCCESS)
    with pytest.raises(BackendGetMetaError, match="could not be read"):
        store.fetch("a")
    assert store.wait("a", timeout=0.3) is None
    proxy.heal()
    found = store.fetch("a")
    assert found is not None
    store.close()
    proxy.close()


def test_what_was_stored_although_the_reply_was_lost_stays_the_same(
    redis_server: Server, client: Any
) -> None:
    proxy = Proxy(redis_server.url)
    store = RedisBackend(proxy.url)
    store.store_many([document("warm up")])
    proxy.lose_reply_to(b"celery-task-meta-a")
    store.store_many([document("a", value=1)])
    assert proxy.has_lost_one
    assert store.fetch_many(["a"])["a"].value() == 1
    store.close()
    proxy.close()


def test_a_full_server_refuses_documents_and_keeps_what_it_has(store: RedisBackend, client: Any) -> None:
    store.store_many([document("a", value=1)])
    client.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(BackendStoreError, match="memory is full"):
            store.store_many([document("b", value=2)])
        assert list(store.fetch_many(["a", "b"])) == ["a"]
        store.forget_many(["a"])
    finally:
        client.config_set("maxmemory", "0")
    store.store_many([document("b", value=2)])
    assert list(store.fetch_many(["a", "b"])) == ["b"]


def test_the_address_is_shown_without_its_password() -> None:
    assert RedisBackend("redis://:secret@localhost/3").as_uri() == "redis://:**@localhost/3"
