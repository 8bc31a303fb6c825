"""One round of one contender: every question answered once, in a room of its own.

A contender comes in, figures leave. Sending is timed inside the contender's own process, everything else
from outside, by counting what is done.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.processes import tree_pss
from benchmarks.rooms import Room, Workers

#: a contender that needs longer is broken, seconds
LONGEST_DRAIN = 180
ROUND_TRIPS = 200
#: how many tasks are in each
WORKFLOWS = {"group": 1000, "chord": 1000, "chain": 200}


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


def measure(room: Room, tasks: int, figures: Figures) -> None:
    """Answer every question once."""
    total = tasks
    if seconds := room.seconds("send", total):
        figures.add("send", total / seconds)
    in_bulk = tasks * 2
    if seconds := room.seconds("send-bulk", in_bulk):
        figures.add("bulk", in_bulk / seconds)
        total += in_bulk
    with room.worker() as workers:
        figures.add("drain", _rate(room, workers, total, room.done))
        time.sleep(1.0)  # let it become idle: measured below
        figures.add("memory", tree_pss([worker.pid for worker in workers]))
        trips = sorted(json.loads(room.verb("round-trips", ROUND_TRIPS)))
        figures.add("p50", trips[len(trips) // 2] * 1000)
        figures.add("p99", trips[int(len(trips) * 0.99)] * 1000)
    figures.add("drain_ignored", _rate_ignored(room, tasks * 2))
    figures.add("first", _first_result(room))
    for workflow, count in WORKFLOWS.items():
        _run_workflow(room, figures, workflow, count)


def _run_workflow(room: Room, figures: Figures, workflow: str, count: int) -> None:
    with room.worker() as workers:
        seconds = json.loads(room.verb(workflow, count))
        room.are_alive(workers)
    if seconds is not None:
        sending, whole = seconds
        figures.add(f"{workflow}_sent", sending)
        figures.add(workflow, whole)


def _rate(room: Room, workers: Workers, total: int, done: Callable[[], int]) -> float:
    """Return tasks/s between the first tenth and the end, so that start-up does not count."""
    begun, begun_at = room.counted(workers, max(total // 10, 1), done, LONGEST_DRAIN)
    ended, ended_at = room.counted(workers, total, done, LONGEST_DRAIN)
    return (ended - begun) / max(ended_at - begun_at, 1e-6) if ended > begun else float("nan")


def _rate_ignored(room: Room, total: int) -> float | None:
    """Return tasks/s when nobody wants the results; None when the contender always keeps them."""
    left = room.contender.left
    if left is None or not room.seconds("send-ignored", total):
        return None
    with room.worker() as workers:
        return _rate(room, workers, total, lambda: total - left(room.server))


def _first_result(room: Room) -> float:
    before = room.done()
    room.verb("send", 1)
    start = time.monotonic()
    with room.worker() as workers:
        while room.done() == before and room.are_alive(workers):
            time.sleep(0.01)
        return time.monotonic() - start
