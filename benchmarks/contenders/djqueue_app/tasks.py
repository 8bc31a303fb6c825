"""The task that djqueue is measured with.

It does nothing, so that what is measured is the queue.
"""

from __future__ import annotations

from djqueue import shared_task


@shared_task
def nothing(number: int) -> int:
    """Return the number."""
    return number
