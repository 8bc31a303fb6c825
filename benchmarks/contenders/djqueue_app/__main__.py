"""djqueue's verbs, on SQLite and on Redis: the settings of the round say where messages and results are.

The defaults are on: late acknowledgement, results before acks, connection handling around each task.
"""

from __future__ import annotations

from typing import Any

import django

django.setup()

from django.core.management import call_command

from benchmarks.contenders.djqueue_app.tasks import ignored, nothing
from benchmarks.contenders.verbs import Verbs
from djqueue import enqueue_many


def wait(result: Any) -> None:
    """Wait for one result."""
    result.get(timeout=30)


def send_bulk(count: int) -> None:
    """Send many tasks in batches of a thousand."""
    for start in range(0, count, 1000):
        enqueue_many([nothing.s(number) for number in range(start, min(start + 1000, count))])


Verbs(
    send=nothing.delay,
    wait=wait,
    send_bulk=send_bulk,
    send_ignored=ignored.delay,
    prepare=lambda: call_command("migrate", verbosity=0),
).run()
