"""Celery on Redis, broker and results, inside the same Django project: prefork with two children.

Everything else is as Celery has it by default, gossip and early acknowledgement included.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, group

from benchmarks.contenders.verbs import Verbs
from benchmarks.lineup import BROKER_DB, RESULT_DB

REDIS = os.environ["BENCH_REDIS"]
app = Celery(
    "benchmarks.contenders.celery_redis", broker=f"{REDIS}/{BROKER_DB}", backend=f"{REDIS}/{RESULT_DB}"
)


@app.task(name="nothing")
def nothing(number: int) -> int:
    """Return the number."""
    return number


@app.task(name="ignored", ignore_result=True)
def ignored(number: int) -> int:
    """Return the number, which nobody wants."""
    return number


def wait(result: Any) -> None:
    """Wait for one result."""
    result.get(timeout=30)


def send_bulk(count: int) -> None:
    """Send many tasks as groups of a thousand, which is Celery's way."""
    for start in range(0, count, 1000):
        group(nothing.s(number) for number in range(start, min(start + 1000, count))).apply_async()


if __name__ == "__main__":
    Verbs(send=nothing.delay, wait=wait, send_bulk=send_bulk, send_ignored=ignored.delay).run()
