"""The tasks that djqueue is measured with.

They do nothing, so that what is measured is the queue.
"""

from __future__ import annotations

import time

from djqueue import shared_task


@shared_task
def nothing(number: int) -> int:
    """Return the number."""
    return number


@shared_task(ignore_result=True)
def ignored(number: int) -> int:
    """Return the number, which nobody wants."""
    return number


@shared_task
def count_all(numbers: list[int]) -> int:
    """Return how many there are."""
    return len(numbers)


@shared_task
def after(number: int) -> int:
    """Return the next number."""
    return number + 1


@shared_task
def lateness(sent_at: float) -> float:
    """Return how many seconds ago that was: from sending to running."""
    return time.time() - sent_at
