"""Waiting in tests: for a condition and within a bound, never for a time.

A test says what it waits for and how long that may take; `wait_until` asks again and again with a short
back-off and hands back the first truthy answer. When none comes, the failure names what was awaited and
what was seen last.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Pauses between two looks, in seconds: short at first so that fast things stay fast, then out of the way.
FIRST_PAUSE = 0.002
LONGEST_PAUSE = 0.1


def wait_until(condition: Callable[[], T], within: float, because: str) -> T:
    """Return the first truthy value of `condition()`; fail when there was none `within` that many seconds.

    `because` completes the sentence "gave up waiting …", for instance "for the worker to store the result".
    The condition is looked at once more after the time is up, so a slow look is not held against it.
    """
    deadline = time.monotonic() + within
    pause = FIRST_PAUSE
    while True:
        too_late = time.monotonic() >= deadline
        value = condition()
        if value:
            return value
        if too_late:
            raise AssertionError(f"Gave up waiting {because}: not within {within:g} s; last seen: {value!r}")
        time.sleep(min(pause, max(deadline - time.monotonic(), 0)))
        pause = min(pause * 1.5, LONGEST_PAUSE)
