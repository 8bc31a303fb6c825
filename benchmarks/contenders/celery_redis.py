"""Celery on Redis or RabbitMQ, results in Redis, inside the same Django project: prefork with two children.

Everything else is as Celery has it by default, gossip and early acknowledgement included.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, chain, chord, group

from benchmarks.contenders.verbs import Verbs
from benchmarks.numbers import BROKER_DB, RESULT_DB

REDIS = os.environ["BENCH_REDIS"]
app = Celery(
    "benchmarks.contenders.celery_redis",
    broker=os.environ.get("BENCH_RABBIT") or f"{REDIS}/{BROKER_DB}",
    backend=f"{REDIS}/{RESULT_DB}",
)


@app.task(name="nothing")
def nothing(number: int) -> int:
    """Return the number."""
    return number


@app.task(name="ignored", ignore_result=True)
def ignored(number: int) -> int:
    """Return the number, which nobody wants."""
    return number


@app.task(name="count")
def count_all(numbers: list[int]) -> int:
    """Return how many there are."""
    return len(numbers)


@app.task(name="after")
def after(number: int) -> int:
    """Return the next number."""
    return number + 1


def wait(result: Any) -> None:
    """Wait for one result."""
    result.get(timeout=120)


def send_bulk(count: int) -> None:
    """Send many tasks as groups of a thousand, which is Celery's way."""
    for start in range(0, count, 1000):
        group(nothing.s(number) for number in range(start, min(start + 1000, count))).apply_async()


WORKFLOWS = {
    "group": lambda count: group(nothing.s(number) for number in range(count)).apply_async(),
    "chord": lambda count: chord((nothing.s(number) for number in range(count)), count_all.s()).apply_async(),
    "chain": lambda count: chain(nothing.s(0), *(after.s() for _ in range(count - 1))).apply_async(),
}

if __name__ == "__main__":
    Verbs(
        send=nothing.delay,
        wait=wait,
        send_bulk=send_bulk,
        send_ignored=ignored.delay,
        workflows=WORKFLOWS,
    ).run()
