"""The store under test, once for each of them.

Tests take `store`, or `shared_store` when threads or processes are to look at it, too.
"""

from __future__ import annotations

import pytest
import redis

from djqueue.result.contract import ResultBackend
from tests.contracts.backends.stores import STORES


@pytest.fixture(params=STORES)
def store_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(
    store_name: str, db: None, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> ResultBackend:
    if store_name == "redis":
        url = request.getfixturevalue("redis_server").url
        monkeypatch.setenv("DJQUEUE_TEST_REDIS_URL", url)
        with redis.Redis.from_url(url) as client:
            client.flushdb()
    return STORES[store_name](monkeypatch)


@pytest.fixture
def shared_store(transactional_db: None, store: ResultBackend) -> ResultBackend:
    """Return the store for tests in which others look at it, too: what is written is committed."""
    return store
