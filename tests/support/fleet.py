"""Workers of djqueue and of stock Celery on one broker, for tests in which they meet.

Results are in Redis, and so are messages unless a RabbitMQ is given. `at_sea(url, logs)` empties the Redis
and gives a `Fleet`; its workers run until the block ends, whatever
test fails in between. Both sides know the tasks of `tests.project.tasks` by the same names.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from tests.project.settings import DIRECTORY
from tests.support.processes import Command, Processes

#: The queues of the two sides: what goes into one is run there.
OURS, THEIRS = "ours", "theirs"
#: of every queue in RabbitMQ; both sides must declare the same
MAX_PRIORITY = 9


@dataclass
class Fleet:
    """Workers of both systems on one server. `url` is the Redis, `broker` where messages are."""

    url: str
    processes: Processes
    broker: str = ""

    def __post_init__(self) -> None:
        self.broker = self.broker or self.url

    @property
    def is_rabbit(self) -> bool:
        """Whether messages are in RabbitMQ."""
        return self.broker.startswith("amqp")

    def settings(self, **more: Any) -> dict[str, Any]:
        """Return what `DJQUEUE` must hold on this server."""
        found: dict[str, Any] = {
            "BROKER_URL": self.broker,
            "RESULT_BACKEND": self.url,
            "TASK_DEFAULT_QUEUE": OURS,
        }
        if self.is_rabbit:
            found["TASK_QUEUE_MAX_PRIORITY"] = MAX_PRIORITY
        return {**found, **more}

    @property
    def stock_settings(self) -> dict[str, Any]:
        """What a stock app must be told to share this server."""
        found: dict[str, Any] = {"result_backend": self.url}
        if self.is_rabbit:
            found["task_queue_max_priority"] = MAX_PRIORITY
        return found

    @property
    def first_to_last(self) -> list[int]:
        """Priorities in the order in which the broker hands out: Redis 0 first, RabbitMQ 9."""
        return [9, 6, 4, 0] if self.is_rabbit else [0, 4, 6, 9]

    def djqueue(self, *flags: str, queue: str = OURS, name: str = "djqueue", **settings: Any) -> Command:
        """Start a worker of ours, and wait until it is ready."""
        words = ["runworker", "-c", "2", "-Q", queue, "-n", f"{name}@%h", *flags]
        worker = self.processes.start(*words, settings=self.settings(**settings))
        worker.wait_for_line("djq.worker.ready", within=30)
        return worker

    def celery(self, *flags: str, queue: str = THEIRS, name: str = "stock", **settings: Any) -> Command:
        """Start a stock worker, and wait until it is ready."""
        words = [sys.executable, "-m", "celery", "-A", "tests.wire.stock", "worker", "-l", "INFO"]
        quiet = ["--without-gossip", "--without-mingle"]
        worker = self.processes.run(
            *(*words, "-c", "2", "-Q", queue, "-n", f"{name}@%h", *quiet, *flags),
            STOCK_URL=self.broker,
            STOCK_SETTINGS=json.dumps({**self.stock_settings, **settings}),
            # Its own warnings are no business of ours; and it is to know nothing of Django.
            PYTHONWARNINGS="ignore",
            DJANGO_SETTINGS_MODULE="",
        )
        worker.wait_for_line(r"@\S+ ready\.", within=30)
        return worker


@contextmanager
def at_sea(url: str, logs: Path, broker: str = "") -> Iterator[Fleet]:
    """Provide a fleet without ships, on an empty server."""
    with redis.Redis.from_url(url) as connection:
        connection.flushdb()
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.project.settings",
        "DJQUEUE_TEST_DIR": str(DIRECTORY),
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "error",
    }
    running = Processes(logs, environment)
    try:
        yield Fleet(url, running, broker)
    finally:
        running.close()
