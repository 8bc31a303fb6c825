"""A Redis of the tests' own, and a bench of brokers and sources on it.

Tests take `bench`: it sends, opens sources with options of their own, looks at keys, and closes everything.
`broken` tests take `proxy`, which stands between the broker and the server.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import redis

from djqueue.core.messages import Destination, Outgoing, WireMessage
from djqueue.exceptions import OperationalError
from djqueue.messaging.delivery import Delivery
from djqueue.messaging.transports.redis.broker import RedisBroker
from djqueue.messaging.transports.redis.source import RedisSource
from djqueue.worker.waiting import Waiting
from tests.support.proxy import Proxy
from tests.support.servers import Server
from tests.support.waiting import wait_until

#: leases so short that tests need not wait, seconds
LEASE = 1.0


def outgoing(
    task_id: str, queue: str = "default", *, due: float | None = None, priority: Any = 0, **headers: Any
) -> Outgoing:
    """Return a message on its way to `queue`."""
    message = WireMessage(
        {"task": "tests.add", "id": task_id, **headers},
        {"correlation_id": task_id, "delivery_mode": 2, "priority": priority},
        b"[[2, 2], {}, {}]",
    )
    return Outgoing(message, Destination("", queue, queue), due)


def ids(deliveries: list[Delivery]) -> list[str]:
    """Return the ids of the messages."""
    return [delivery.message.headers["id"] for delivery in deliveries]


class Bench:
    """Brokers and sources on one Redis."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client: Any = redis.Redis.from_url(url, decode_responses=True)
        self._names = count()
        self._brokers: list[RedisBroker] = []
        self._sources: list[RedisSource] = []
        self.waiting = Waiting()

    def broker(self, url: str | None = None, **options: Any) -> RedisBroker:
        """Return a broker with these options."""
        made = RedisBroker(url or self.url, options)
        self._brokers.append(made)
        return made

    def source(self, *queues: str, broker: RedisBroker | None = None, **options: Any) -> RedisSource:
        """Return an open source of a consumer that nobody else is."""
        made = (broker or self.broker(**{"lease": LEASE, **options})).source(
            queues or ("default",), f"consumer-{os.getpid()}-{next(self._names)}"
        )
        self._sources.append(made)
        made.open(self.waiting.watch, self.waiting.wake)
        return made

    def send(self, *ids: str, broker: RedisBroker | None = None, **options: Any) -> None:
        """Send one message for each id, in one go."""
        (broker or self.broker()).send_many([outgoing(one, **options) for one in ids])

    def dead_letters(self) -> list[dict[str, Any]]:
        """Return the dead letters, oldest first."""
        names = self.client.zrange("djq:dead_index", 0, -1)
        return [json.loads(self.client.hget("djq:dead", name)) for name in names]

    def leftovers(self) -> set[str]:
        """Return the keys that should not be there when nobody works and nothing waits."""
        harmless = ("djq:node:", "djq:sender:", "_kombu.binding", "djq:projects")
        return {key for key in self.client.keys("*") if not key.startswith(harmless)}

    def close(self) -> None:
        """Close everything."""
        for source in self._sources:
            source.close()
        for broker in self._brokers:
            broker.close()
        self.client.close()
        self.waiting.close()


def receive(source: RedisSource, within: float = 10, room: int = 10) -> list[Delivery]:
    """Tend and receive until something comes; a broken connection is tried again, as the loop does."""

    def look() -> list[Delivery]:
        try:
            source.tend(time.monotonic())
            return source.receive(room)
        except OperationalError:
            return []

    return wait_until(look, within, "for messages")


def receive_all(source: RedisSource, count: int) -> list[str]:
    """Receive until so many messages have come, and return their ids."""
    found: list[str] = []
    while len(found) < count:
        found += ids(receive(source))
    return found


@pytest.fixture
def bench(redis_server: Server) -> Iterator[Bench]:
    made = Bench(redis_server.url)
    made.client.flushdb()
    yield made
    made.close()


@pytest.fixture
def proxy(bench: Bench) -> Iterator[Proxy]:
    made = Proxy(bench.url)
    yield made
    made.close()
