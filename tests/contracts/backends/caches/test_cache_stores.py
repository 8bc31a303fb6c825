"""What the stores in caches do beyond the contract: Celery's keys and documents, lifetimes, limits, settings.

A stock Celery reads from memcached what we store, and the other way round.
"""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings
from pymemcache.client.base import Client

from djqueue import states
from djqueue.conf import settings
from djqueue.exceptions import BackendGetMetaError, BackendStoreError, ImproperlyConfigured
from djqueue.result.backends import backend
from djqueue_results.backends.caches.django_cache import DjangoCacheBackend
from djqueue_results.backends.caches.memcached import MemcachedBackend
from djqueue_results.backends.caches.memory import MOST_KEPT, MemoryBackend
from tests.support.results import document
from tests.support.servers import Server, free_port, provide
from tests.support.waiting import wait_until

# memcached


def test_celery_reads_what_we_store_and_we_what_celery_stores(store: MemcachedBackend, stock: Any) -> None:
    store.store_many([document("ours", value={"a": ["æ", 1]}, children=[[["child", None], None]])])
    theirs = stock.AsyncResult("ours")
    assert theirs.get(timeout=5, interval=0.01) == {"a": ["æ", 1]}
    assert [child.id for child in theirs.children] == ["child"]
    stock.backend.store_result("theirs", [1, 2], "SUCCESS")
    found = store.wait("theirs", timeout=5)
    assert found is not None
    assert found.value() == [1, 2]
    try:
        raise KeyError("k")
    except KeyError as error:
        stock.backend.mark_as_failure("failed", error, traceback="Traceback…")
    failed = store.wait("failed", timeout=5)
    assert failed is not None
    assert isinstance(failed.value(), KeyError)


def test_a_success_by_either_is_final_for_the_other(store: MemcachedBackend, stock: Any) -> None:
    stock.backend.store_result("theirs", 1, "SUCCESS")
    store.store_many([document("theirs", states.FAILURE, starts=3), document("ours", value=1)])
    stock.backend.store_result("ours", ValueError("late"), "FAILURE")
    assert [found.status for found in store.fetch_many(["theirs", "ours"]).values()] == ["SUCCESS"] * 2


def test_groups_are_kept_as_celery_keeps_them(store: MemcachedBackend, stock: Any) -> None:
    members = [["group", None], [[["a", None], None], [["b", None], None]]]
    store.save_group("group", members)
    assert [one.id for one in stock.GroupResult.restore("group")] == ["a", "b"]
    assert store.restore_group("group") == members
    store.delete_group("group")
    assert store.restore_group("group") is None
    stock.GroupResult("theirs", [stock.AsyncResult("c")]).save()
    assert store.restore_group("theirs") == [["theirs", None], [[["c", None], None]]]


def test_keys_and_lifetimes_are_celerys(store: MemcachedBackend, client: Client) -> None:
    store.store_many([document("a", value=1)])
    assert json.loads(client.get("celery-task-meta-a"))["result"] == 1
    with settings.override(RESULT_EXPIRES=1):
        store.store_many([document("b", value=1)])
    wait_until(lambda: store.fetch("b") is None, 10, "for it to expire")
    with settings.override(RESULT_EXPIRES=60 * 24 * 60 * 60):  # a moment in 1970, to memcached
        store.store_many([document("c", value=1)])
    assert sorted(store.fetch_many(["a", "b", "c"])) == ["a", "c"]
    with settings.override(RESULT_BACKEND_TRANSPORT_OPTIONS={"global_keyprefix": "shop"}):
        other = MemcachedBackend(store.url)
    other.store_many([document("a", value=2)])
    assert json.loads(client.get("shop_celery-task-meta-a"))["result"] == 2
    other.close()


def test_a_result_that_is_too_large_becomes_a_failure_that_says_so(store: MemcachedBackend) -> None:
    store.store_many([document("large", value="x" * 40_000_000)])
    kept = store.fetch("large")
    assert kept is not None
    assert kept.status == states.FAILURE
    assert "too large" in str(kept.value())


def test_several_servers_share_the_documents(memcached_server: Server, client: Client) -> None:
    url = memcached_server.url.rstrip("/")
    with closing(MemcachedBackend(f"{url};localhost:{url.rpartition(':')[2]}/")) as store:
        store.store_many([document(f"task-{number}", value=number) for number in range(20)])
        assert len(store.fetch_many([f"task-{number}" for number in range(20)])) == 20


def test_a_server_that_is_away_is_said_to_be() -> None:
    store = MemcachedBackend(f"cache+memcached://127.0.0.1:{free_port()}/")
    with pytest.raises(BackendStoreError, match="cannot be reached") as caught:
        store.store_many([document("b")])
    assert (caught.value.task_id, caught.value.state) == ("b", states.SUCCESS)
    with pytest.raises(BackendGetMetaError, match="cannot be reached"):
        store.fetch("a")


def test_a_server_that_started_again_is_asked_over_new_connections() -> None:
    server = provide("memcached")
    with closing(MemcachedBackend(server.url)) as store:
        store.store_many([document("a", value=1)])
        server.restart()
        assert store.fetch("a") is None
        server.restart()
        store.store_many([document("b", value=2)])
        assert store.fetch("b") is not None
    server.close()


def test_options_are_the_clients() -> None:
    with settings.override(CACHE_BACKEND_OPTIONS={"timeout": 1.5}):
        MemcachedBackend("cache+memcached://127.0.0.1/")
    with (
        settings.override(CACHE_BACKEND_OPTIONS={"timeuot": 1.5}),
        pytest.raises(ImproperlyConfigured, match="timeuot"),
    ):
        MemcachedBackend("cache+memcached://127.0.0.1/")


# Django's caches


def test_the_cache_is_named_by_the_address_or_the_setting() -> None:
    named = {"other": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "other"}}
    with override_settings(CACHES={**named, "default": {**named["other"], "LOCATION": "default"}}):
        backend("django-cache").store_many([document("a", value=1)])
        backend("django-cache://other").store_many([document("b", value=2)])
        with settings.override(CACHE_BACKEND="other"):
            DjangoCacheBackend("django-cache").store_many([document("c", value=3)])
        assert json.loads(caches["default"].get("celery-task-meta-a"))["result"] == 1
        assert json.loads(caches["other"].get("celery-task-meta-b"))["result"] == 2
        assert json.loads(caches["other"].get("celery-task-meta-c"))["result"] == 3
        assert not backend("django-cache").is_shared
        with pytest.raises(ImproperlyConfigured, match="no cache 'missing'"):
            backend("django-cache://missing")


def test_a_cache_that_keeps_nothing_is_refused() -> None:
    with (
        override_settings(CACHES={"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}),
        pytest.raises(ImproperlyConfigured, match="keeps nothing"),
    ):
        backend("django-cache")


# Memory


def test_memory_keeps_the_newest() -> None:
    store = MemoryBackend()
    store.store_many([document(f"task-{number}", value=number) for number in range(MOST_KEPT + 1)])
    assert list(store.fetch_many(["task-0", "task-1"])) == ["task-1"]
