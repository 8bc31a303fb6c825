"""Whether a failed task is tried again, and when: sums without side effects.

`Task.retry` and automatic retries ask here; the random source is passed in by tests.
"""

from __future__ import annotations

import random
from collections.abc import Callable

#: Beyond this exponent every factor exceeds any maximum.
_LARGEST_EXPONENT = 64


def may_retry(retries: int, max_retries: int | None) -> bool:
    """Return whether a task that was retried `retries` times may be retried once more (None: for ever)."""
    return max_retries is None or retries < max_retries


def backoff_factor(retry_backoff: bool | int | float) -> int | None:
    """Return the factor that the option `retry_backoff` stands for, in seconds; None when it is off."""
    if not retry_backoff:
        return None
    return int(max(1.0, float(retry_backoff)))


def backoff(
    retries: int,
    factor: int,
    maximum: int = 600,
    jitter: bool = True,
    randrange: Callable[[int], int] = random.randrange,
) -> int:
    """Return the seconds before the next try: `factor`, doubled with every retry, `maximum` at most.

    With `jitter` a whole number from 0 to that, all equally likely.
    """
    seconds: int = min(int(maximum), factor * 2 ** min(retries, _LARGEST_EXPONENT))
    if jitter:
        seconds = randrange(seconds + 1)
    return max(0, seconds)
