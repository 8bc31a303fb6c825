"""Chords counted in memcached and Django's caches: Celery's keys, parts that come again, crashes, evictions.

Nothing here completes a chord before its last part has ended, and nothing leaves one open for ever.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import override_settings
from pymemcache.client.base import Client

from djqueue import exceptions, states
from djqueue.conf import settings
from djqueue.exceptions import BackendStoreError
from djqueue.result.chords import ChordCount, ChordOpening, ChordPart
from djqueue.result.documents import encode_exception, encode_value
from djqueue_results.backends.caches.contract import CacheError
from djqueue_results.backends.caches.django_cache import DjangoCacheBackend
from djqueue_results.backends.caches.memcached import MemcachedBackend
from tests.support.results import document
from tests.support.servers import Server
from tests.support.waiting import wait_until

WAIT = 10.0


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let others take over after a moment."""
    monkeypatch.setattr("djqueue_results.backends.keyvalue.chords.CLAIMED", 0.2)


def open_chord(store: MemcachedBackend, size: int = 2) -> None:
    """Open the chord "g" of the tasks "a", "b", …."""
    store.open_chords([ChordOpening("g", size, ids=list("abc")[:size])])


def part(name: str) -> ChordPart:
    """Return a part of it."""
    return ChordPart("g", name, "abc".index(name), states.SUCCESS, *encode_value(name))


def count(store: MemcachedBackend, *names: str) -> list[ChordCount]:
    """Store the results of parts and count them, as a worker does."""
    store.store_many([document(name, value=name) for name in names])
    return store.count_parts([part(name) for name in names])


def values(counts: list[ChordCount]) -> list[Any] | None:
    """Return the results of the one chord; None: somebody else is completing it, or it is open."""
    return counts[0].parts and [one.value() for one in counts[0].parts] if counts else None


def count_as_celery(stock: Any, name: str) -> None:
    """Store the result of a part and count it, as a stock worker does."""
    stock.backend.store_result(name, name, "SUCCESS")
    stock.backend.incr(stock.backend.get_key_for_chord("g"))


def once(method: Any, error: Exception) -> Any:
    """Return the method, which first fails."""
    left = [error]

    def work(*arguments: Any) -> Any:
        if left:
            raise left.pop()
        return method(*arguments)

    return work


def test_keys_and_values_are_celerys(store: MemcachedBackend, client: Client, stock: Any) -> None:
    open_chord(store)
    assert client.get("chord-unlock-g") == b"0"
    assert json.loads(client.get("celery-taskset-meta-g"))["result"][0] == ["g", None]
    assert [one.id for one in stock.GroupResult.restore("g")] == ["a", "b"]
    count(store, "a")
    assert client.get("chord-unlock-g") == b"1"
    assert values(count(store, "b")) == ["a", "b"]
    store.close_chords(["g"])
    kept = ["celery-taskset-meta-g", "chord-unlock-g", "chord-unlock-g.a", "chord-unlock-g:claim"]
    assert client.get_many(kept) == {}
    assert count(store, "b") == []


def test_the_prefix_is_that_of_chords_as_well(memcached_server: Server, client: Client) -> None:
    with settings.override(RESULT_BACKEND_TRANSPORT_OPTIONS={"global_keyprefix": "shop"}):
        store = MemcachedBackend(memcached_server.url)
    open_chord(store)
    count(store, "a")
    assert client.get("shop_chord-unlock-g") == b"1"
    assert values(count(store, "b")) == ["a", "b"]
    store.close()


def test_celery_counts_along(store: MemcachedBackend, stock: Any) -> None:
    open_chord(store, 3)
    count(store, "c")
    count_as_celery(stock, "a")
    assert values(count(store, "b")) == ["a", "b", "c"]


def test_what_is_counted_lives_as_long_as_it_is_told_to_and_from_each_part_on(
    store: MemcachedBackend, client: Client
) -> None:
    with settings.override(RESULT_CHORD_EXPIRES=1):
        open_chord(store)
    wait_until(lambda: client.get("chord-unlock-g") is None, WAIT, "for the counter to expire")
    with settings.override(RESULT_EXPIRES=2):
        open_chord(store)
    count(store, "a")
    wait_until(lambda: store.fetch("a") is not None, WAIT, "for the result")
    client.set("later", b"1", expire=3, noreply=False)
    wait_until(lambda: client.get("later") is None, WAIT, "for three seconds to pass on the server")
    assert client.get("chord-unlock-g") == b"1"
    assert values(count(store, "b")) == ["a", "b"]


@pytest.mark.parametrize("broken", ["increase", "_set"])
def test_a_part_of_which_a_crash_left_unsure_whether_it_was_counted_completes_nothing_early(
    store: MemcachedBackend, soon: None, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    open_chord(store)
    with monkeypatch.context() as patch:
        patch.setattr(store, broken, once(getattr(store, broken), CacheError("killed")))
        with pytest.raises(BackendStoreError, match="killed"):
            count(store, "a")
    for _ in range(3):
        held = count(store, "a")
        assert (len(held), values(held)) == (1, None)
    store.store_many([document("b", states.STARTED)])
    assert values(count(store, "a")) is None
    count(store, "b")
    wait_until(lambda: values(count(store, "a")) == ["a", "b"], WAIT, "for the chord to be complete")


def test_a_lost_counter_loses_no_chord(store: MemcachedBackend, client: Client, soon: None) -> None:
    open_chord(store)
    count(store, "a")
    client.delete("chord-unlock-g", noreply=False)
    wait_until(lambda: values(count(store, "b")) == ["a", "b"], WAIT, "for the chord to be complete")


def test_a_lost_result_fails_the_chord_after_a_while(
    store: MemcachedBackend, client: Client, soon: None
) -> None:
    open_chord(store)
    count(store, "a")
    store.forget_many(["a"])
    with settings.override(RESULT_CHORD_JOIN_TIMEOUT=None):
        assert values(count(store, "b")) is None
    with settings.override(RESULT_CHORD_JOIN_TIMEOUT=0.3):
        counts = wait_until(
            lambda: (found := count(store, "b")) and found[0].parts and found, WAIT, "for patience to end"
        )
    assert counts is not None
    lost, kept = counts[0].parts or ()
    assert (lost.task_id, lost.state, kept.value()) == ("a", states.FAILURE, "b")
    assert isinstance(lost.value(), exceptions.TimeoutError)


def test_a_damaged_result_fails_the_chord(store: MemcachedBackend, client: Client) -> None:
    open_chord(store)
    count(store, "a")
    client.set("celery-task-meta-a", b"{damaged", noreply=False)
    found = values(count(store, "b"))
    assert found is not None
    assert isinstance(found[0], exceptions.DecodeError)


@pytest.mark.parametrize("state", [states.SUCCESS, states.FAILURE])
def test_a_part_that_leaves_no_document_is_known_by_its_mark(
    store: MemcachedBackend, monkeypatch: pytest.MonkeyPatch, soon: None, state: str
) -> None:
    open_chord(store)
    ended = KeyError("a") if state == states.FAILURE else "a"
    encoded = encode_exception(ended) if isinstance(ended, KeyError) else encode_value(ended)
    alone = ChordPart("g", "a", 0, state, *encoded)
    store.store_many([document("a", states.STARTED)])
    with monkeypatch.context() as patch:
        patch.setattr(store, "_set", once(store._set, CacheError("killed")))
        with pytest.raises(BackendStoreError, match="killed"):
            store.count_parts([alone])
    assert store.count_parts([alone])[0].parts is None
    found = values(count(store, "b"))
    assert found is not None
    assert (repr(found[0]), found[1]) == (repr(ended), "b")


def test_a_part_without_document_that_is_too_large_fails(store: MemcachedBackend) -> None:
    open_chord(store, 1)
    large = ChordPart("g", "a", 0, states.SUCCESS, *encode_value("x" * 40_000_000))
    (found,) = values(store.count_parts([large])) or ()
    assert "too large" in str(found)


def test_what_celery_counts_twice_completes_nothing_early(
    store: MemcachedBackend, stock: Any, soon: None
) -> None:
    open_chord(store, 3)
    store.store_many([document("c", states.STARTED)])
    count_as_celery(stock, "a")
    count_as_celery(stock, "a")
    with settings.override(RESULT_CHORD_JOIN_TIMEOUT=0.0):
        assert values(count(store, "b")) is None
    assert values(count(store, "c")) == ["a", "b", "c"]


def test_a_chord_that_a_stock_worker_completes_is_left_to_it(store: MemcachedBackend, stock: Any) -> None:
    open_chord(store)
    count(store, "a")
    count_as_celery(stock, "b")
    held = count(store, "a")  # the same part again
    assert (len(held), values(held)) == (1, None)
    stock.GroupResult.restore("g").delete()
    assert count(store, "a") == []


# Django's caches


def test_caches_that_cannot_increase_a_number_do_not_count() -> None:
    engines = {
        "memory": "locmem.LocMemCache",
        "table": "db.DatabaseCache",
        "files": "filebased.FileBasedCache",
        "redis": "redis.RedisCache",
    }
    caches = {
        name: {"BACKEND": f"django.core.cache.backends.{engine}", "LOCATION": "redis://127.0.0.1"}
        for name, engine in engines.items()
    }
    with override_settings(CACHES={**caches, "default": caches["memory"]}):
        stores = {name: DjangoCacheBackend(f"django-cache://{name}") for name in engines}
        assert {name for name, store in stores.items() if store.counts_chords} == {"memory", "redis"}
        with settings.override(RESULT_BACKEND_TRANSPORT_OPTIONS={"count_chords": False}):
            assert not DjangoCacheBackend("django-cache://memory").counts_chords
