"""A broker, and on it both systems: workers of djqueue and of stock Celery, and a client of each.

A file of tests runs over Redis, and once more over RabbitMQ if it says `OVER_RABBIT = True`. Workers live as
long as the tests of one file; every task has an id of its own, so tests do not meet.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import kombu.pools
import pytest
import redis
from celery import Celery
from celery.result import AsyncResult

from tests.support.fleet import OURS, Fleet, at_sea
from tests.support.servers import Server
from tests.wire import stock


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let a file say over which brokers its tests run."""
    if "fleet" in metafunc.fixturenames:
        brokers: list[Any] = ["redis"]
        if getattr(metafunc.module, "OVER_RABBIT", False):
            # Dead letters and revocations of workers on RabbitMQ are in the database.
            brokers.append(pytest.param("rabbitmq", marks=pytest.mark.django_db(transaction=True)))
        metafunc.parametrize("fleet", brokers, indirect=True, scope="module")


@pytest.fixture(scope="module")
def fleet(
    request: pytest.FixtureRequest,
    redis_server: Server,
    django_db_setup: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    """Return a fleet without ships, on an empty server."""
    broker = ""
    if request.param == "rabbitmq":
        broker = request.getfixturevalue("amqp_server").vhost(request.module.__name__.rpartition(".")[2])
    with at_sea(redis_server.url, tmp_path_factory.mktemp("fleet"), broker) as ready:
        yield ready


@pytest.fixture(scope="module")
def celery(fleet: Fleet) -> Iterator[Celery]:
    """Return a stock client."""
    made = stock.client(fleet.broker, **fleet.stock_settings, task_default_queue=OURS)
    yield made
    gc.collect()
    for left in gc.get_objects():
        if isinstance(left, AsyncResult):
            left.backend = None  # or it says goodbye, when it goes, to a server that has gone before
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
