"""djqueue's verbs, on SQLite and on Redis: the settings of the round say where messages and results are.

The defaults are on: late acknowledgement, results before acks, connection handling around each task.
"""

from __future__ import annotations

from typing import Any

import django

django.setup()

from django.core.management import call_command

from benchmarks.contenders.djqueue_app.tasks import after, count_all, ignored, lateness, nothing
from benchmarks.contenders.verbs import Verbs
from djqueue import chain, chord, enqueue_many, group


def wait(result: Any) -> None:
    """Wait for one result."""
    result.get(timeout=120)


def send_bulk(count: int) -> None:
    """Send many tasks in batches of a thousand."""
    for start in range(0, count, 1000):
        enqueue_many([nothing.s(number) for number in range(start, min(start + 1000, count))])


WORKFLOWS = {
    "group": lambda count: group(nothing.s(number) for number in range(count)).delay(),
    "chord": lambda count: chord((nothing.s(number) for number in range(count)), count_all.s()).delay(),
    "chain": lambda count: chain(nothing.s(0), *(after.s() for _ in range(count - 1))).delay(),
}

Verbs(
    send=nothing.delay,
    wait=wait,
    send_bulk=send_bulk,
    send_ignored=ignored.delay,
    lateness=lambda sent_at: lateness.delay(sent_at).get,
    workflows=WORKFLOWS,
    prepare=lambda: call_command("migrate", verbosity=0),
).run()
