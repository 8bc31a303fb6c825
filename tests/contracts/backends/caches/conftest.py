"""An empty memcached, our store on it, and a stock Celery that keeps results there as well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from celery import Celery
from pymemcache.client.base import Client

from djqueue_results.backends.caches.memcached import MemcachedBackend
from tests.support.servers import Server


@pytest.fixture
def client(memcached_server: Server) -> Iterator[Client]:
    with closing(Client(memcached_server.url.partition("://")[2].rstrip("/"))) as client:
        client.flush_all(noreply=False)
        yield client


@pytest.fixture
def store(memcached_server: Server, client: Client) -> Iterator[MemcachedBackend]:
    with closing(MemcachedBackend(memcached_server.url)) as made:
        yield made


@pytest.fixture
def stock(memcached_server: Server) -> Iterator[Any]:
    app = Celery("stock", backend=memcached_server.url, set_as_current=False, fixups=[])
    yield app
    app.backend.client.close()
    app.close()
