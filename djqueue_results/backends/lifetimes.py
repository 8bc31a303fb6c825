"""For how long stores keep what they keep, by the settings.

Stores that are told lifetimes come in; whole seconds leave, at least one, or 0 for ever.
"""

from __future__ import annotations

import math

from djqueue.conf import settings


def of_results() -> int:
    """Return the lifetime of results, and of groups."""
    return _whole(settings.RESULT_EXPIRES)


def of_failures() -> int:
    """Return the lifetime of results of tasks that failed."""
    expires = settings.RESULT_FAILURE_EXPIRES
    return of_results() if expires is None else _whole(expires)


def of_chords() -> int:
    """Return the lifetime of what is counted of a chord, from its last part on."""
    expires = settings.RESULT_CHORD_EXPIRES
    return of_results() if expires is None else _whole(expires)


def of_both() -> int:
    """Return the lifetime of what a chord needs and others read, too."""
    chords, results = of_chords(), of_results()
    return max(chords, results) if chords and results else 0


def _whole(seconds: float | None) -> int:
    return max(math.ceil(seconds), 1) if seconds else 0
