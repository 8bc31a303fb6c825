"""The tasks that djqueue is measured with.

They do nothing, so that what is measured is the queue.
"""

from __future__ import annotations

from djqueue import shared_task


@shared_task
def nothing(number: int) -> int:
    """Return the number."""
    return number


@shared_task(ignore_result=True)
def ignored(number: int) -> int:
    """Return the number, which nobody wants."""
    return number
