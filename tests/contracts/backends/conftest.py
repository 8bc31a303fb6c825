"""The store under test, once for each of them.

Tests take `store`, or `shared_store` when threads or processes are to look at it, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings
from django.test import override_settings
from pymemcache.client.base import Client

from djqueue.conf import settings
from djqueue.result.contract import ResultBackend
from tests.contracts.backends.stores import STORES
from tests.support import amazon, clouds, databases


@pytest.fixture(params=STORES)
def store_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(
    store_name: str,
    db: None,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> Iterator[ResultBackend]:
    broker = settings.BROKER_URL
    if "redis" in store_name:
        url = request.getfixturevalue("redis_server").url
        monkeypatch.setenv("DJQUEUE_TEST_REDIS_URL", url)
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        broker = url
    elif store_name == "memcached":
        url = request.getfixturevalue("memcached_server").url
        monkeypatch.setenv("DJQUEUE_TEST_MEMCACHED_URL", url)
        _, places = url.split("://")
        with closing(Client(places.rstrip("/"))) as client:
            client.flush_all(noreply=False)
    elif store_name == "third party's":
        url = request.getfixturevalue("redis_server").url
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        dotted = "tests.support.third_party.FencedStore"
        monkeypatch.setenv("DJQUEUE_TEST_RESULTS", url.replace("redis", dotted, 1))
    elif store_name == "files":
        monkeypatch.setenv("DJQUEUE_TEST_RESULTS", f"file://{tmp_path}")
    elif "sql in" in store_name:
        address = databases.sql_url(store_name.split()[-1], request, tmp_path)
        monkeypatch.setenv("DJQUEUE_TEST_RESULTS", databases.empty_tables(address))
    elif "rabbitmq" in store_name:
        broker = request.getfixturevalue("amqp_server").url
    shared = {**django_settings.CACHES, "shared": {**django_settings.CACHES["shared"], "LOCATION": broker}}
    changes: dict[str, Any] = {"BROKER_URL": broker}
    if store_name == "s3":
        changes |= amazon.s3_settings(request.getfixturevalue("amazon_server").url)
        monkeypatch.setenv("DJQUEUE_TEST_SETTINGS", json.dumps(changes))
    elif store_name == "dynamodb":
        monkeypatch.setenv(
            "DJQUEUE_TEST_RESULTS", amazon.table_address(request.getfixturevalue("amazon_server").url)
        )
    elif store_name == "gs":
        given = clouds.google_settings(request.getfixturevalue("google_server").url)
        monkeypatch.setenv("DJQUEUE_TEST_RESULTS", given["RESULT_BACKEND"])
    elif store_name == "azure":
        changes |= clouds.azure_settings(request.getfixturevalue("azure_server").url)
        monkeypatch.setenv("DJQUEUE_TEST_RESULTS", changes["RESULT_BACKEND"])
        monkeypatch.setenv("DJQUEUE_TEST_SETTINGS", json.dumps(changes))
    if "compressed" in store_name:
        changes["RESULT_COMPRESSION"] = "zlib"
        monkeypatch.setenv("DJQUEUE_TEST_SETTINGS", json.dumps(changes))
    server = store_name.partition("django-db in ")[2]
    place = databases.standing_in(request.getfixturevalue(f"{server}_database")) if server else nullcontext()
    with settings.override(**changes), override_settings(CACHES=shared), place:
        if server:
            databases.empty()
        store = STORES[store_name](monkeypatch)
        yield store
        store.close()


@pytest.fixture
def shared_store(transactional_db: None, store: ResultBackend) -> ResultBackend:
    """Return the store for tests in which others look at it, too: what is written is committed."""
    return store
