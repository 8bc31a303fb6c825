"""djqueue on the database broker with the django-db result store, on SQLite.

The defaults are on: late acknowledgement, results before acks, connection handling around each task.
"""

from __future__ import annotations

from typing import Any

import django

django.setup()

from django.core.management import call_command

from benchmarks.contenders.djqueue_app.tasks import nothing
from benchmarks.contenders.verbs import Verbs
from djqueue import enqueue_many
from djqueue_results.models import TaskResult


def wait(result: Any) -> None:
    """Wait for one result."""
    result.get(timeout=30)


def send_bulk(count: int) -> None:
    """Send many tasks in batches of a thousand."""
    for start in range(0, count, 1000):
        enqueue_many([nothing.s(number) for number in range(start, min(start + 1000, count))])


if __name__ == "__main__":
    Verbs(
        prepare=lambda: call_command("migrate", verbosity=0),
        send=nothing.delay,
        wait=wait,
        done=lambda: TaskResult.objects.filter(status="SUCCESS").count(),
        send_bulk=send_bulk,
    ).run()
