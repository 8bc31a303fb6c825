"""Workers of djqueue and of stock Celery on one Redis, for tests in which they meet.

`at_sea(url, logs)` empties the server and gives a `Fleet`; its workers run until the block ends, whatever
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


@dataclass
class Fleet:
    """Workers of both systems on one server."""

    url: str
    processes: Processes

    def settings(self, **more: Any) -> dict[str, Any]:
        """Return what `DJQUEUE` must hold on this server."""
        return {"BROKER_URL": self.url, "RESULT_BACKEND": self.url, "TASK_DEFAULT_QUEUE": OURS, **more}

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
            STOCK_URL=self.url,
            STOCK_SETTINGS=json.dumps(settings),
            # Its own warnings are no business of ours; and it is to know nothing of Django.
            PYTHONWARNINGS="ignore",
            DJANGO_SETTINGS_MODULE="",
        )
        worker.wait_for_line(r"@\S+ ready\.", within=30)
        return worker


@contextmanager
def at_sea(url: str, logs: Path) -> Iterator[Fleet]:
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
    yield Fleet(url, running)
    running.close()
