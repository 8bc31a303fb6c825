"""A contender's room: a fresh directory, a fresh server of its own, its verbs and its workers.

A contender's name comes in; its commands run here, and figures of it are read from outside. Everything that
was started is gone when the room is left.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from benchmarks.lineup import CONTENDERS, Server
from benchmarks.processes import postgres_server, redis_server, running
from tests.support.rabbit import PrivateRabbit

#: how often what is done is counted, seconds
LOOK_EVERY = 0.02

Workers = Sequence[subprocess.Popen[bytes]]


class Room:
    """One contender, one fresh directory. A context manager."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.contender = CONTENDERS[name]
        self._stack = ExitStack()

    def __enter__(self) -> Room:
        directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="djqueue-bench-")))
        self._environment = {
            **os.environ,
            "BENCH_DIR": str(directory),
            "BENCH_CONTENDER": self.contender.project,
            "DJANGO_SETTINGS_MODULE": "benchmarks.project",
            "PYTHONWARNINGS": "ignore",
        }
        group, port, held = self.contender.group, None, [directory]
        if group in ("redis", "rabbitmq"):
            port = self._stack.enter_context(redis_server(directory))
            self._environment["BENCH_REDIS"] = f"redis://127.0.0.1:{port}"
        if group == "rabbitmq":  # and results are in Redis, for everybody
            rabbit = PrivateRabbit()
            self._stack.callback(rabbit.close)
            self._environment["BENCH_RABBIT"] = rabbit.url.removesuffix("/") + "%2F"
            held.append(rabbit.directory)
        if group == "postgres":
            port = self._stack.enter_context(postgres_server(directory))
            self._environment["BENCH_POSTGRES"] = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        self.server = self._stack.enter_context(Server(held, group, port))
        self.verb("prepare")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def verb(self, *words: object) -> str:
        """Run one of the contender's verbs; return the last line that it printed.

        Raises:
            RuntimeError: it failed.
        """
        command = [*_resolved(self.contender.verbs), *map(str, words)]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
        return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""

    def seconds(self, verb: str, count: int) -> float | None:
        """Return what the contender says the verb took; None: it cannot do it."""
        return json.loads(self.verb(verb, count))

    def worker(self) -> AbstractContextManager[Workers]:
        """Run the contender's workers until the block is left."""
        one = self.contender
        return running(
            _resolved(one.worker), self._environment, self.server.directory / "worker.log", one.copies
        )

    def are_alive(self, workers: Workers) -> bool:
        """Return True.

        Raises:
            RuntimeError: a worker has ended by itself.
        """
        if any(worker.poll() is not None for worker in workers):
            log = (self.server.directory / "worker.log").read_text(errors="replace")
            raise RuntimeError(f"A worker of {self.name} ended by itself:\n{log[-4000:]}")
        return True

    def done(self) -> int:
        """Return how many results are stored."""
        return self.contender.done(self.server)

    def counted(
        self,
        workers: Workers,
        total: int,
        done: Callable[[], int],
        longest: float,
        every: float = LOOK_EVERY,
    ) -> tuple[int, float]:
        """Count every so many seconds until enough are done; return how many are, and when (monotonic clock).

        Raises:
            RuntimeError: that took longer than `longest` seconds, or a worker ended.
        """
        deadline = time.monotonic() + longest
        while time.monotonic() < deadline and self.are_alive(workers):
            so_far, now = done(), time.monotonic()
            if so_far >= total:
                return so_far, now
            time.sleep(every)
        raise RuntimeError(f"{self.name} did not finish {total} tasks in {longest} s: {done()} are done")


def _resolved(command: tuple[str, ...]) -> list[str]:
    return [word.format(python=sys.executable) for word in command]
