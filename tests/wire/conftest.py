"""A Redis, and on it both systems: workers of djqueue and of stock Celery, and a client of each.

Workers live as long as the tests of one file; every task has an id of its own, so tests do not meet.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kombu.pools
import pytest
import redis
from celery import Celery

from tests.support.fleet import OURS, Fleet, at_sea
from tests.support.servers import Server
from tests.wire import stock


@pytest.fixture(scope="module")
def fleet(
    redis_server: Server, django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """Return a fleet without ships, on an empty server."""
    with at_sea(redis_server.url, tmp_path_factory.mktemp("fleet")) as ready:
        yield ready


@pytest.fixture(scope="module")
def celery(fleet: Fleet) -> Iterator[Celery]:
    """Return a stock client."""
    made = stock.client(fleet.url, task_default_queue=OURS)
    yield made
    made.backend.result_consumer.stop()
    made.backend.client.close()
    kombu.pools.reset()  # they belong to the process, not to the app
    made.close()


@pytest.fixture
def server(fleet: Fleet) -> Iterator[redis.Redis]:
    """Return a plain connection to the server."""
    with redis.Redis.from_url(fleet.url) as connection:
        yield connection


@pytest.fixture
def djqueue(fleet: Fleet, settings: Any) -> None:
    """Let this process send with djqueue to the same server."""
    settings.DJQUEUE = fleet.settings()
