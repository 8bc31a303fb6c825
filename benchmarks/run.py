"""Measures every contender in turn, several rounds, and prints medians, spread and ratios.

`python -m benchmarks.run [--rounds 3] [--tasks 2000] [--only djqueue_sqlite,celery_sqlite]`. Absolute figures
belong to the machine; the ratios beside peers measured in the same run are what counts.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

CONTENDERS = ("djqueue_sqlite", "celery_sqlite", "django_tasks_db")
#: where each keeps its results: file, and how to count the successful ones
COUNTS = {
    "djqueue_sqlite": (
        "bench.sqlite3",
        "SELECT count(*) FROM djqueue_results_taskresult WHERE status = 'SUCCESS'",
    ),
    "celery_sqlite": ("results.sqlite3", "SELECT count(*) FROM celery_taskmeta WHERE status = 'SUCCESS'"),
    "django_tasks_db": (
        "bench.sqlite3",
        "SELECT count(*) FROM django_tasks_database_dbtaskresult WHERE status = 'SUCCESSFUL'",
    ),
}
#: a contender that needs longer is broken, seconds
LONGEST_DRAIN = 120
#: the command of each contender's worker, after `python -m`, and the settings it needs
WORKERS = {
    "djqueue_sqlite": "django runworker -c 2 -l WARNING",
    "celery_sqlite": "celery -A benchmarks.contenders.celery_sqlite worker -c 2 -l WARNING"
    " --without-gossip --without-mingle",
    "django_tasks_db": "django db_worker --interval 0.01 --no-startup-delay -v 0",
}
QUESTIONS = {
    "send": ("sending one by one", "tasks/s"),
    "bulk": ("sending in bulk", "tasks/s"),
    "drain": ("draining, with results", "tasks/s"),
    "p50": ("round trip, median", "ms"),
    "p99": ("round trip, 99th percentile", "ms"),
    "memory": ("idle worker, whole tree (PSS)", "MB"),
    "first": ("start to first result", "s"),
}


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
    """One contender, one fresh directory."""

    def __init__(self, contender: str, tasks: int) -> None:
        self.contender = contender
        self.tasks = tasks
        self._directory = tempfile.TemporaryDirectory(prefix="djqueue-bench-")
        self._environment = {
            **os.environ,
            "BENCH_DIR": self._directory.name,
            "BENCH_CONTENDER": contender.removesuffix("_sqlite"),
            "DJANGO_SETTINGS_MODULE": "benchmarks.project",
            "PYTHONWARNINGS": "ignore",
        }

    def measure(self, figures: Figures) -> None:
        """Answer every question once."""
        self._verb("prepare")
        seconds = json.loads(self._verb("send", self.tasks))
        figures.add("send", self.tasks / seconds)
        bulk_tasks = self.tasks * 2
        bulk_seconds = json.loads(self._verb("send-bulk", bulk_tasks))
        total = self.tasks
        if bulk_seconds is not None:
            figures.add("bulk", bulk_tasks / bulk_seconds)
            total += bulk_tasks
        with self._worker() as worker:
            figures.add("drain", self._drain(total))
            time.sleep(1.0)  # let it become idle: measured below
            figures.add("memory", tree_pss(worker.pid))
            trips = sorted(json.loads(self._verb("round-trips", 200)))
            figures.add("p50", trips[len(trips) // 2] * 1000)
            figures.add("p99", trips[int(len(trips) * 0.99)] * 1000)
        figures.add("first", self._first_result())
        self._directory.cleanup()

    def _drain(self, total: int) -> float:
        """Return tasks/s between the first tenth and the end, so that start-up does not count."""
        begun, begun_at = 0, 0.0
        deadline = time.monotonic() + LONGEST_DRAIN
        while time.monotonic() < deadline:
            done, now = self._count_done(), time.monotonic()
            if not begun and done >= total // 10:
                begun, begun_at = done, now
            if done >= total:
                return (done - begun) / max(now - begun_at, 1e-6) if done > begun else float("nan")
            time.sleep(0.02)
        raise RuntimeError(f"{self.contender} did not finish {total} tasks in {LONGEST_DRAIN} s")

    def _first_result(self) -> float:
        before = self._count_done()
        self._verb("send", 1)
        start = time.monotonic()
        with self._worker():
            while self._count_done() == before:
                time.sleep(0.01)
            return time.monotonic() - start

    def _count_done(self) -> int:
        """Ask the database itself: starting a process for each look would disturb what is measured."""
        name, query = COUNTS[self.contender]
        connection = sqlite3.connect(f"file:{self._directory.name}/{name}?mode=ro", uri=True, timeout=30)
        try:
            return int(connection.execute(query).fetchone()[0])
        except sqlite3.OperationalError:  # Celery makes its table with the first result
            return 0
        finally:
            connection.close()

    def _verb(self, *words: object) -> str:
        command = [sys.executable, "-m", f"benchmarks.contenders.{self.contender}", *map(str, words)]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
        return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""

    def _worker(self) -> WorkerProcess:
        command = [sys.executable, "-m", *WORKERS[self.contender].split()]
        return WorkerProcess(command, self._environment, Path(self._directory.name) / "worker.log")


class WorkerProcess:
    """A contender's worker, from start to a clean stop."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self._log = log.open("ab")
        self._process = subprocess.Popen(
            command, env=environment, stdout=self._log, stderr=self._log, start_new_session=True
        )
        self.pid = self._process.pid

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
        self._log.close()


def tree_pss(pid: int) -> float:
    """Return the proportional memory of a process and all below it, in MB."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:  # gone meanwhile
            continue
        parents[int(entry.parent.name)] = int(fields[1])
    tree = {pid}
    while below := {child for child, parent in parents.items() if parent in tree} - tree:
        tree |= below
    total = 0
    for member in tree:
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def table(figures: dict[str, Figures]) -> str:
    """Return the results as Markdown: medians, spread, and djqueue's ratio to each peer."""
    names = list(figures)
    ours, *peers = names
    lines = [
        "| | " + " | ".join(names) + " | " + " | ".join(f"ratio to {peer}" for peer in peers) + " |",
        "|---" * (1 + len(names) + len(peers)) + "|",
    ]
    for question, (words, unit) in QUESTIONS.items():
        cells = [f"{words} ({unit})"]
        for name in names:
            values = figures[name].rounds.get(question)
            cells.append(
                f"{statistics.median(values):,.4g} ({min(values):,.4g} – {max(values):,.4g})"
                if values
                else "–"
            )
        for peer in peers:
            mine, theirs = figures[ours].median(question), figures[peer].median(question)
            cells.append(f"{mine / theirs:.2f} ×" if mine and theirs else "–")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--only", default=",".join(CONTENDERS), help="contenders, separated by commas")
    options = parser.parse_args()
    figures = {name: Figures() for name in options.only.split(",")}
    for number in range(options.rounds):
        for name, gathered in figures.items():  # in turn, so that the machine's moods hit everybody
            print(f"round {number + 1} of {options.rounds}: {name}", file=sys.stderr)
            Round(name, options.tasks).measure(gathered)
    print(f"{options.tasks} tasks, {options.rounds} rounds: median (least to most)\n")
    print(table(figures))


if __name__ == "__main__":
    main()
