"""django-tasks-db, the database backend of django.tasks, on SQLite.

One worker process: a second one only makes both wait for the database lock.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.project")
os.environ["BENCH_CONTENDER"] = "django_tasks_db"

import django

django.setup()

from django.core.management import call_command
from django_tasks_db.models import DBTaskResult

from benchmarks.contenders.django_tasks_task import nothing
from benchmarks.contenders.verbs import Verbs


def worker() -> None:
    """Become a worker."""
    command = ["-m", "django", "db_worker", "--interval", "0.01", "--no-startup-delay", "-v", "0"]
    os.execv(sys.executable, [sys.executable, *command])


def wait(result: Any) -> None:
    """Wait for one result, asking as often as a hurried user would."""
    deadline = time.monotonic() + 30
    while not result.is_finished and time.monotonic() < deadline:
        time.sleep(0.01)
        result.refresh()


if __name__ == "__main__":
    Verbs(
        prepare=lambda: call_command("migrate", verbosity=0),
        send=nothing.enqueue,
        wait=wait,
        worker=worker,
        done=lambda: DBTaskResult.objects.successful().count(),
    ).run()
