"""The brokers that the contract of sources is asked of, and a bench to ask it on.

Each test gets a fresh broker of every kind, with a way to send, to receive, to look at dead letters and to
spoil a message. A new broker is one more entry in `KINDS`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis

from djqueue.core.messages import Destination, Outgoing, WireMessage
from djqueue.messaging import brokers
from djqueue.messaging.contract import Broker, Source
from djqueue.messaging.delivery import Delivery
from djqueue.messaging.transports.database import claims
from djqueue.messaging.transports.memory import MemoryBroker
from djqueue.models import DeadLetter, Message
from djqueue.worker.waiting import Waiting
from tests.project.settings import DIRECTORY
from tests.support.processes import ROOT
from tests.support.waiting import wait_until

#: for processes that use the test's databases
ENVIRONMENT = {
    **os.environ,
    "DJANGO_SETTINGS_MODULE": "tests.project.settings",
    "DJQUEUE_TEST_DIR": str(DIRECTORY),
}


@dataclass(frozen=True)
class Kind:
    """One kind of broker: its URL, and what tests cannot do through the contract."""

    url: str
    dead_letters: Callable[[Broker], list[tuple[str, str, Any, int]]]
    spoil: Callable[[Broker], None]
    prepare: Callable[[pytest.MonkeyPatch], None] = lambda monkeypatch: None
    #: fixture of the server, which knows the URL
    server: str = ""
    #: several queues are read as one, by age; otherwise in turns
    by_age: bool = True


def dead_rows(broker: Broker) -> list[tuple[str, str, Any, int]]:
    """Return reason, detail, id and starts of the dead letters in the table."""
    return list(DeadLetter.objects.order_by("id").values_list("reason", "detail", "task_id", "starts"))


def dead_in_memory(broker: Broker) -> list[tuple[str, str, Any, int]]:
    """Return the same from memory."""
    assert isinstance(broker, MemoryBroker)
    return [
        (dead.reason, dead.detail, dead.kept.packed[0][0].get("id"), dead.kept.starts)
        for dead in broker.dead_letters
    ]


def spoil_row(broker: Broker) -> None:
    """Make the headers of every waiting message unreadable."""
    Message.objects.update(headers="{no json")


def spoil_nothing(broker: Broker) -> None:
    """Skip: what is in memory cannot become unreadable."""
    pytest.skip("messages in memory are never unreadable")


def without_returning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the database broker work as on vendors that cannot return the rows they changed."""
    monkeypatch.setattr(claims, "RETURNING", frozenset())


def dead_in_redis(broker: Broker) -> list[tuple[str, str, Any, int]]:
    """Return the same from Redis, oldest first."""
    with redis.Redis.from_url(broker.url) as client:
        letters = [json.loads(client.hget("djq:dead", one)) for one in client.zrange("djq:dead_index", 0, -1)]
    return [
        (letter["reason"], letter["detail"], _SPOILED_ID.findall(letter["message"])[0], letter["starts"])
        for letter in letters
    ]


_SPOILED_ID = re.compile(r'"id": "(.*?)"')


def spoil_element(broker: Broker) -> None:
    """Cut the end off every waiting message."""
    with redis.Redis.from_url(broker.url) as client:
        for number, raw in enumerate(client.lrange("default", 0, -1)):
            client.lset("default", number, raw[:-1])


KINDS = {
    "sqlite": Kind("django://default", dead_rows, spoil_row),
    "sqlite in steps": Kind("django://default", dead_rows, spoil_row, without_returning),
    "memory": Kind("memory://", dead_in_memory, spoil_nothing),
    "redis": Kind("", dead_in_redis, spoil_element, server="redis_server", by_age=False),
}


@dataclass
class Sleeper:
    """Sleeps where the worker's loop would, and knows whether it was woken."""

    waiting: Waiting = field(default_factory=Waiting)
    was_woken: bool = False

    def wake(self) -> None:
        """Note it, and end the sleep."""
        self.was_woken = True
        self.waiting.wake()

    def is_woken(self, within: float) -> bool:
        """Sleep until woken; return whether it was, within that many seconds or since it last slept."""
        self.waiting.wait(within)
        was_woken, self.was_woken = self.was_woken, False
        return was_woken


@dataclass
class Bench:
    """A broker on the bench."""

    kind: Kind
    broker: Broker
    _sources: list[tuple[Source, Sleeper]] = field(default_factory=list)
    _holders: list[subprocess.Popen[str]] = field(default_factory=list)
    _names: Iterator[int] = field(default_factory=count)

    def send(
        self,
        *ids: str,
        queue: str = "default",
        due: float | None = None,
        body: bytes = b"[[], {}, {}]",
        priority: Any = None,
        **headers: Any,
    ) -> None:
        """Send one message for each id, in one go."""
        self.broker.send_many([outgoing(one, queue, due, body, priority, headers) for one in ids])

    def source(self, *queues: str, consumer: str | None = None) -> Source:
        """Return an open source of a consumer that nobody else is."""
        return self.watched_source(*queues, consumer=consumer)[0]

    def watched_source(self, *queues: str, consumer: str | None = None) -> tuple[Source, Sleeper]:
        """Return an open source, and who is woken by it."""
        sleeper = Sleeper()
        source = self.broker.source(queues or ("default",), consumer or f"consumer-{next(self._names)}")
        source.open(sleeper.waiting.watch, sleeper.wake)
        self._sources.append((source, sleeper))
        return source, sleeper

    def dead_letters(self) -> list[tuple[str, str, Any, int]]:
        """Return reason, detail, id and starts of each dead letter."""
        return self.kind.dead_letters(self.broker)

    def holder(self, claim: int, start: int = 0, queue: str = "default") -> subprocess.Popen[str]:
        """Start a process that claims messages, writes that the first `start` of them run, and waits."""
        if self.broker.capabilities.in_process:
            pytest.skip("its queues live in one process")
        holder = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.contracts.sources.holder"),
                *(self.kind.url, queue, str(claim), str(start)),
            ],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._holders.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        return holder

    def kill(self, holder: subprocess.Popen[str]) -> None:
        """Kill the process as hard as can be."""
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()

    def close(self) -> None:
        """End everything that is still open."""
        for source, sleeper in self._sources:
            source.close()
            sleeper.waiting.close()
        for holder in self._holders:
            holder.kill()
            holder.wait()
            assert holder.stdout is not None
            holder.stdout.close()


def outgoing(
    task_id: str, queue: str, due: float | None, body: bytes, priority: Any, headers: dict[str, Any]
) -> Outgoing:
    """Return a message on its way to `queue`."""
    message = WireMessage(
        {"task": "tests.add", "id": task_id, **headers},
        {"correlation_id": task_id, "priority": priority, "delivery_mode": 2},
        body,
    )
    return Outgoing(message, Destination("", queue, queue), due)


def ids(deliveries: list[Delivery]) -> list[str]:
    """Return the ids of the messages."""
    return [delivery.message.headers["id"] for delivery in deliveries]


def receive_within(source: Source, seconds: float, because: str, room: int = 10) -> list[Delivery]:
    """Tend and receive until something comes."""

    def look() -> list[Delivery]:
        source.tend(time.monotonic())
        return source.receive(room)

    return wait_until(look, within=seconds, because=because)


@pytest.fixture(params=KINDS)
def bench(
    request: pytest.FixtureRequest, transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    kind = KINDS[request.param]
    kind.prepare(monkeypatch)
    if kind.server:
        kind = replace(kind, url=request.getfixturevalue(kind.server).url)
        with redis.Redis.from_url(kind.url) as client:
            client.flushdb()
    broker = brokers.broker(kind.url)
    board = broker.start_board_path("anybody")
    if board is not None and not kind.server:  # elsewhere the directory is shared with real workers
        shutil.rmtree(Path(board).parent, ignore_errors=True)
    bench = Bench(kind, broker)
    yield bench
    bench.close()
