"""Tasks for every purpose of the functional and crash tests, found by autodiscovery.

Callers send them by name or by import; they add, fail, retry, sleep, report progress, write rows, die.
Those that crash tests use write to the ledger, so that what happened is known whatever the system says.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model

from djqueue import shared_task
from tests.support.ledger import ENDED, STARTED, Ledger


class Expected(Exception):
    """The tasks below fail with this one."""


@shared_task
def add(x: int, y: int) -> int:
    """Return the sum."""
    return x + y


@shared_task
async def add_later(x: int, y: int) -> int:
    """Return the sum, from a coroutine."""
    return x + y


@shared_task
def echo(*args: Any, **kwargs: Any) -> list[Any]:
    """Return what came in."""
    return [list(args), kwargs]


@shared_task
def fail(message: str = "as asked") -> None:
    """Raise `Expected`."""
    raise Expected(message)


@shared_task
def nap(seconds: float) -> float:
    """Sleep, and return for how long."""
    time.sleep(seconds)
    return seconds


@shared_task(bind=True)
def describe(self: Any, *args: Any) -> dict[str, Any]:
    """Return what the task knows of its own run."""
    request = self.request
    return {
        "id": request.id,
        "task": request.task,
        "retries": request.retries,
        "starts": request.starts,
        "hostname": request.hostname,
        "queue": request.delivery_info["queue"],
        "root_id": request.root_id,
        "parent_id": request.parent_id,
        "headers": request.headers,
        "pid": os.getpid(),
    }


@shared_task(bind=True, max_retries=5)
def succeed_on_try(self: Any, wanted: int, countdown: float = 0.0) -> int:
    """Ask to be retried until it is the `wanted`th try (counted from 1), and return its number."""
    number: int = self.request.retries + 1
    if number < wanted:
        raise self.retry(countdown=countdown, exc=Expected(f"try {number}"))
    return number


@shared_task(autoretry_for=(Expected,), max_retries=2, default_retry_delay=0)
def give_up(path: str) -> None:
    """Fail each time; retried twice by itself. Each try leaves a line in `path`."""
    Ledger(path).note(STARTED, "give_up")
    raise Expected("never works")


@shared_task(bind=True)
def report_progress(self: Any, path: str) -> str:
    """Set a state of its own, then wait until the file `path` exists."""
    self.update_state(state="PROGRESS", meta={"done": 1, "total": 2})
    _wait_for_file(path)
    return "done"


@shared_task
def wait_for_file(path: str) -> str:
    """End when the file `path` exists: the test decides when."""
    _wait_for_file(path)
    return path


@shared_task
def make_user(name: str) -> int:
    """Write a row, and return its primary key."""
    return int(get_user_model().objects.create_user(name).pk)


@shared_task(bind=True)
def record(self: Any, path: str, seconds: float = 0.0) -> str:
    """Note start and end in the ledger, with a pause between."""
    ledger = Ledger(path)
    ledger.note(STARTED, self.request.id, self.request.starts)
    time.sleep(seconds)
    ledger.note(ENDED, self.request.id, self.request.starts)
    return "recorded"


@shared_task(bind=True, acks_late=False)
def record_early(self: Any, path: str, seconds: float = 0.0) -> str:
    """Do as `record` does, acknowledged before it starts."""
    ledger = Ledger(path)
    ledger.note(STARTED, self.request.id, self.request.starts)
    time.sleep(seconds)
    ledger.note(ENDED, self.request.id, self.request.starts)
    return "recorded"


@shared_task(bind=True)
def die(self: Any, path: str, times: int = 1) -> int:
    """Kill the own process the first `times` starts (counted in the ledger), then end."""
    ledger = Ledger(path)
    ledger.note(STARTED, self.request.id, self.request.starts)
    starts = ledger.ids(STARTED).count(self.request.id)
    if starts <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    ledger.note(ENDED, self.request.id, self.request.starts)
    return starts


@shared_task(bind=True)
def die_with_worker(self: Any, path: str, worker: int) -> int:
    """Run for ever as long as the worker with that pid lives; a later start returns how many there were."""
    ledger = Ledger(path)
    ledger.note(STARTED, self.request.id, self.request.starts)
    while Path(f"/proc/{worker}").exists() and self.request.starts == 0:
        time.sleep(0.01)
    return ledger.ids(STARTED).count(self.request.id)


@shared_task(rate_limit="5/s")
def now_and_then() -> float:
    """Return when it ran."""
    return time.monotonic()


@shared_task
def leave(status: int) -> None:
    """End the own process with an exit status, as a crashing C library might."""
    os._exit(status)


@shared_task
def tick(path: str) -> None:
    """Leave a line: a schedule fired."""
    Ledger(path).note("tick", "tick")


def _wait_for_file(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.01)
