"""django-tasks-db, the database backend of django.tasks, on SQLite.

One worker process: a second one only makes both wait for the database lock.
"""

from __future__ import annotations

import time
from typing import Any

import django

django.setup()

from django.core.management import call_command

from benchmarks.contenders.django_tasks_task import nothing
from benchmarks.contenders.verbs import Verbs


def wait(result: Any) -> None:
    """Wait for one result, asking as often as a hurried user would."""
    deadline = time.monotonic() + 30
    while not result.is_finished and time.monotonic() < deadline:
        time.sleep(0.01)
        result.refresh()


if __name__ == "__main__":
    Verbs(
        send=nothing.enqueue,
        wait=wait,
        prepare=lambda: call_command("migrate", verbosity=0),
    ).run()
