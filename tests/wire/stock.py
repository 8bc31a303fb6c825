"""A stock Celery app, as one has it before djqueue: `python -m celery -A tests.wire.stock worker`.

Its tasks bear the names of those in `tests.project.tasks`, so that either system can run what the other
sends. The environment names the server (`STOCK_URL`) and may hold more settings as JSON (`STOCK_SETTINGS`);
`client` makes an app for the test's own process, which only sends.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from celery import Celery

from tests.support.ledger import ENDED, STARTED, Ledger

NAMES = "tests.project.tasks."
SETTINGS = {
    "result_extended": True,
    "broker_connection_retry_on_startup": True,
    # In seconds; Celery waits ten for a last word of a child that is gone.
    "worker_lost_wait": 0.5,
}


def client(url: str, **settings: Any) -> Celery:
    """Return a stock app on that server. It leaves Django and the process's current app alone."""
    store = settings.pop("result_backend", url)
    made = Celery("stock", broker=url, backend=store, set_as_current=False, fixups=[])
    made.conf.update({**SETTINGS, **settings})
    return made


app = client(os.environ.get("STOCK_URL", "memory://"), **json.loads(os.environ.get("STOCK_SETTINGS", "{}")))


class Expected(Exception):
    """The tasks below fail with this one."""


# Looks as if it came from a module in which pickle does not find it.
Elsewhere = type("Expected", (Exception,), {"__module__": NAMES.rstrip(".")})


@app.task(name=f"{NAMES}add")
def add(x: int, y: int) -> int:
    """Return the sum."""
    return x + y


@app.task(name=f"{NAMES}total")
def total(numbers: list[int]) -> int:
    """Return the sum of all."""
    return sum(numbers)


@app.task(name=f"{NAMES}echo")
def echo(*args: Any, **kwargs: Any) -> list[Any]:
    """Return what came in."""
    return [list(args), kwargs]


@app.task(name=f"{NAMES}fail")
def fail(message: str = "as asked") -> None:
    """Raise `Expected`."""
    raise Expected(message)


@app.task(name=f"{NAMES}fail_unpicklably")
def fail_unpicklably() -> None:
    """Raise what cannot be pickled, which Celery's prefork pool wants of exceptions."""
    raise Elsewhere("not to be pickled")


@app.task(name=f"{NAMES}nap")
def nap(seconds: float) -> float:
    """Sleep, and return for how long."""
    time.sleep(seconds)
    return seconds


@app.task(name=f"{NAMES}describe", bind=True)
def describe(self: Any, *args: Any) -> dict[str, Any]:
    """Return what the task knows of its own run."""
    request = self.request
    return {
        "id": request.id,
        "task": request.task,
        "retries": request.retries,
        "hostname": request.hostname,
        "root_id": request.root_id,
        "parent_id": request.parent_id,
        "priority": request.delivery_info["priority"],
        "headers": {name: request.get(name) for name in ("stamped", "h1")},
        "timelimit": request.timelimit,
        "pid": os.getpid(),
    }


@app.task(name=f"{NAMES}succeed_on_try", bind=True, max_retries=5)
def succeed_on_try(self: Any, wanted: int, countdown: float = 0.0) -> int:
    """Ask to be retried until it is the `wanted`th try (counted from 1), and return its number."""
    number: int = self.request.retries + 1
    if number < wanted:
        raise self.retry(countdown=countdown, exc=Expected(f"try {number}"))
    return number


@app.task(name=f"{NAMES}leave")
def leave(status: int) -> None:
    """End the own process with an exit status, as a crashing C library might."""
    os._exit(status)


@app.task(name=f"{NAMES}record", bind=True)
def record(self: Any, path: str, seconds: float = 0.0) -> str:
    """Note start and end in the ledger, with a pause between."""
    ledger = Ledger(path)
    ledger.note(STARTED, self.request.id)
    time.sleep(seconds)
    ledger.note(ENDED, self.request.id)
    return "recorded"
