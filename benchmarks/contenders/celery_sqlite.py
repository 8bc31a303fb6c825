"""Celery on its SQLAlchemy broker and result store, on SQLite: what Celery offers without a server.

Prefork with two children, its defaults otherwise; the files are in WAL mode like everybody's.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

from celery import Celery

from benchmarks.contenders.verbs import Verbs

DIRECTORY = Path(os.environ["BENCH_DIR"])
app = Celery(
    "benchmarks.contenders.celery_sqlite",
    broker=f"sqla+sqlite:///{DIRECTORY}/broker.sqlite3",
    backend=f"db+sqlite:///{DIRECTORY}/results.sqlite3",
)
app.conf.broker_connection_retry_on_startup = True


@app.task(name="nothing")
def nothing(number: int) -> int:
    """Return the number."""
    return number


@app.task(name="ignored", ignore_result=True)
def ignored(number: int) -> int:
    """Return the number, which nobody wants."""
    return number


def prepare() -> None:
    """Make the files, in WAL mode."""
    for name in ("broker", "results"):
        connection = sqlite3.connect(DIRECTORY / f"{name}.sqlite3")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()


def wait(result: Any) -> None:
    """Wait for one result, asking as often as a hurried user would."""
    result.get(timeout=30, interval=0.01)


if __name__ == "__main__":
    Verbs(send=nothing.delay, wait=wait, send_ignored=ignored.delay, prepare=prepare).run()
