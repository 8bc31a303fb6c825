"""Tasks for every purpose of the functional and crash tests, found by autodiscovery.

Callers send them by name or by import; they add, fail, retry, sleep, report progress, write rows, die.
Those that crash tests use write to the ledger, so that what happened is known whatever the system says.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import IntegrityError, connection, transaction

from djqueue import Task, shared_task
from tests.support.ledger import ENDED, STARTED, Ledger


class Expected(Exception):
    """The tasks below fail with this one."""


@shared_task
def add(x: int, y: int) -> int:
    """Return the sum."""
    return x + y


@shared_task
def total(numbers: list[int]) -> int:
    """Return the sum of all."""
    return sum(numbers)


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
        "collected": gc.get_threshold(),
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


@shared_task(bind=True)
def hog(self: Any, path: str, seconds: float, *, in_c: bool = False) -> None:
    """Keep the interpreter busy, noting start and end; `in_c`: let no other thread run meanwhile."""
    ledger = Ledger(path)
    ledger.note(STARTED, self.request.id, self.request.starts)
    if in_c:
        ctypes.PyDLL(None).usleep(round(seconds * 1_000_000))  # with the interpreter's lock held
    else:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            sum(range(10_000))
    ledger.note(ENDED, self.request.id, self.request.starts)


class KilledAtItsEnd(Task[..., Any]):
    """A task that is killed when its result is encoded and nothing is committed yet, if it says so."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Be killed, if that was asked for."""
        if retval == "killed at its end":
            kill(args[2])


@shared_task(bind=True, ack="transactional", base=KilledAtItsEnd)
def write_once(self: Any, path: str, point: str = "", whom: str = "child") -> str:
    """Write a row; at the first start be killed before that, after it, at the end, or after the commit."""
    ledger = Ledger(path)
    ledger.note(STARTED, self.request.id, self.request.starts)
    is_first = ledger.ids(STARTED).count(self.request.id) == 1
    if is_first and point == "before":
        kill(whom)
    Group.objects.create(name=f"{self.request.id} {uuid4()}")
    if is_first and point == "written":
        kill(whom)
    if is_first and point == "committed":
        transaction.on_commit(lambda: kill(whom))
    return "killed at its end" if is_first and point == "ending" else "written"


@shared_task(bind=True, ack="transactional")
def write_and(self: Any, what: str) -> None:
    """Write a row; then fail, break a constraint, or swallow an error of the database."""
    Group.objects.create(name=f"{self.request.id} {uuid4()}")
    if what == "fail":
        raise Expected(what)
    if what == "swallow":
        try:
            Group.objects.create(name=Group.objects.latest("id").name)
        except IntegrityError:
            return


@shared_task
def end_own_session() -> int:
    """Have the server end this task's session in the middle of a transaction, and go on writing."""
    with transaction.atomic():
        Group.objects.create(name=str(uuid4()))
        with connection.cursor() as cursor:
            if connection.vendor == "mysql":
                cursor.execute("SELECT CONNECTION_ID()")
                cursor.execute(f"KILL {cursor.fetchone()[0]}")
            else:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return Group.objects.count()


@shared_task
def count_groups() -> int:
    """Return how many rows there are."""
    return Group.objects.count()


def kill(whom: str) -> None:
    """Kill this child, or its whole worker by way of the main process, and wait for the end."""
    nursery = os.getppid()
    main = int(Path(f"/proc/{nursery}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(os.getpid() if whom == "child" else main, signal.SIGKILL)
    time.sleep(60)


@shared_task(rate_limit="5/s")
def now_and_then() -> float:
    """Return when it ran."""
    return time.monotonic()


@shared_task
def leave(status: int) -> None:
    """End the own process with an exit status, as a crashing C library might."""
    os._exit(status)


@shared_task(acks_late=False)
def leave_early(status: int) -> None:
    """Do as `leave` does, acknowledged before it starts."""
    os._exit(status)


@shared_task
def tick(path: str) -> None:
    """Leave a line: a schedule fired."""
    Ledger(path).note("tick", "tick")


def _wait_for_file(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.01)
