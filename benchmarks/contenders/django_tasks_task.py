"""The task that django-tasks-db is measured with, in a module its worker can import.

It does nothing, so that what is measured is the queue.
"""

from __future__ import annotations

from django_tasks import task


@task()
def nothing(number: int) -> int:
    """Return the number."""
    return number
