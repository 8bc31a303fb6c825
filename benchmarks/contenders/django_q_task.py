"""The task that django-q2 is measured with, in a module its workers can import.

It does nothing, so that what is measured is the queue.
"""

from __future__ import annotations


def nothing(number: int) -> int:
    """Return the number."""
    return number
