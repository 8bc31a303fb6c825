"""django-q2 with its ORM broker: messages and results are rows of the project's database.

Two workers in one cluster; it looks for messages a hundred times a second.
"""

from __future__ import annotations

import django

django.setup()

from django.core.management import call_command
from django_q.tasks import async_task, result

from benchmarks.contenders.verbs import Verbs

if __name__ == "__main__":
    Verbs(
        send=lambda number: async_task("benchmarks.contenders.django_q_task.nothing", number),
        wait=lambda task: result(task, wait=30_000),
        prepare=lambda: call_command("migrate", verbosity=0),
    ).run()
