"""One round of one contender: a fresh directory, a fresh server, and every question answered once.

A contender comes in, figures leave. Sending is timed inside the contender's own process, everything else
from outside, by counting what is done.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.lineup import CONTENDERS, Server
from benchmarks.processes import redis_server, running, tree_pss

#: a contender that needs longer is broken, seconds
LONGEST_DRAIN = 180
#: how often what is done is counted, seconds
LOOK_EVERY = 0.02
ROUND_TRIPS = 200

Workers = Sequence[subprocess.Popen[bytes]]


@dataclass
class Figures:
    """What one contender reached in each round, by question."""

    rounds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, question: str, value: float | None) -> None:
        """Note one round's figure; None is left out."""
        if value is not None:
            self.rounds.setdefault(question, []).append(value)

    def median(self, question: str) -> float | None:
        """Return the median of the rounds, None when the contender cannot do it."""
        values = self.rounds.get(question)
        return statistics.median(values) if values else None


class Round:
    """One contender, one fresh directory. A context manager."""

    def __init__(self, name: str, tasks: int) -> None:
        self._name = name
        self._tasks = tasks
        self._contender = CONTENDERS[name]
        self._rooms = ExitStack()

    def __enter__(self) -> Round:
        directory = Path(self._rooms.enter_context(tempfile.TemporaryDirectory(prefix="djqueue-bench-")))
        self._environment = {
            **os.environ,
            "BENCH_DIR": str(directory),
            "BENCH_CONTENDER": self._contender.project,
            "DJANGO_SETTINGS_MODULE": "benchmarks.project",
            "PYTHONWARNINGS": "ignore",
        }
        port = None
        if self._contender.group == "redis":
            port = self._rooms.enter_context(redis_server(directory))
            self._environment["BENCH_REDIS"] = f"redis://127.0.0.1:{port}"
        self._server = Server(directory, port)
        return self

    def __exit__(self, *_: object) -> None:
        self._rooms.close()

    def measure(self, figures: Figures) -> None:
        """Answer every question once."""
        self._verb("prepare")
        total = self._tasks
        if seconds := self._seconds("send", total):
            figures.add("send", total / seconds)
        in_bulk = self._tasks * 2
        if seconds := self._seconds("send-bulk", in_bulk):
            figures.add("bulk", in_bulk / seconds)
            total += in_bulk
        with self._worker() as workers:
            figures.add("drain", self._drain(workers, total, self._done))
            time.sleep(1.0)  # let it become idle: measured below
            figures.add("memory", tree_pss([worker.pid for worker in workers]))
            trips = sorted(json.loads(self._verb("round-trips", ROUND_TRIPS)))
            figures.add("p50", trips[len(trips) // 2] * 1000)
            figures.add("p99", trips[int(len(trips) * 0.99)] * 1000)
        figures.add("drain_ignored", self._drain_ignored())
        figures.add("first", self._first_result())

    def _drain(self, workers: Workers, total: int, done: Callable[[], int]) -> float:
        """Return tasks/s between the first tenth and the end, so that start-up does not count."""
        begun, begun_at = 0, 0.0
        deadline = time.monotonic() + LONGEST_DRAIN
        while time.monotonic() < deadline and self._are_alive(workers):
            so_far, now = done(), time.monotonic()
            if not begun and so_far >= total // 10:
                begun, begun_at = so_far, now
            if so_far >= total:
                return (so_far - begun) / max(now - begun_at, 1e-6) if so_far > begun else float("nan")
            time.sleep(LOOK_EVERY)
        raise RuntimeError(
            f"{self._name} did not finish {total} tasks in {LONGEST_DRAIN} s: {done()} are done"
        )

    def _are_alive(self, workers: Workers) -> bool:
        """Return True.

        Raises:
            RuntimeError: a worker has ended by itself.
        """
        if any(worker.poll() is not None for worker in workers):
            log = (self._server.directory / "worker.log").read_text(errors="replace")
            raise RuntimeError(f"A worker of {self._name} ended by itself:\n{log[-4000:]}")
        return True

    def _drain_ignored(self) -> float | None:
        """Return tasks/s when nobody wants the results; None when the contender always keeps them."""
        left = self._contender.left
        total = self._tasks * 2
        if left is None or not self._seconds("send-ignored", total):
            return None
        with self._worker() as workers:
            return self._drain(workers, total, lambda: total - left(self._server))

    def _first_result(self) -> float:
        before = self._done()
        self._verb("send", 1)
        start = time.monotonic()
        with self._worker() as workers:
            while self._done() == before and self._are_alive(workers):
                time.sleep(0.01)
            return time.monotonic() - start

    def _done(self) -> int:
        return self._contender.done(self._server)

    def _seconds(self, verb: str, count: int) -> float | None:
        """Return what the contender says the verb took; None: it cannot do it."""
        return json.loads(self._verb(verb, count))

    def _verb(self, *words: object) -> str:
        command = [*_resolved(self._contender.verbs), *map(str, words)]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
        return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""

    def _worker(self) -> AbstractContextManager[Workers]:
        one = self._contender
        return running(
            _resolved(one.worker), self._environment, self._server.directory / "worker.log", one.copies
        )


def _resolved(command: tuple[str, ...]) -> list[str]:
    return [word.format(python=sys.executable) for word in command]
