"""Fits the pool to the work at hand: `runworker --autoscale=MAX,MIN`.

It grows as soon as more tasks are in hand than the pool runs at a time, and shrinks when nothing came in
for WORKER_AUTOSCALE_KEEPALIVE seconds. A component of the worker. A class of your own, named by
WORKER_AUTOSCALER, takes the same arguments; usually it overrides `wanted` only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from django.utils.module_loading import import_string

from djqueue.conf import settings
from djqueue.exceptions import ImproperlyConfigured
from djqueue.worker import log_lines
from djqueue.worker.pools.contract import Pool

#: how often it looks whether the pool is larger than it need be, seconds
ROUND = 1.0


class Autoscaler:
    """Grows and shrinks one pool between `minimum` and `maximum`. Used by the loop's thread only.

    `in_hand` returns how many tasks the worker holds that could run; `keepalive` is in seconds.
    """

    def __init__(
        self, pool: Pool, in_hand: Callable[[], int], *, maximum: int, minimum: int, keepalive: float
    ) -> None:
        self.maximum = maximum
        self.minimum = minimum
        self.keepalive = keepalive
        self._pool = pool
        self._in_hand = in_hand
        self._active_at = time.monotonic()  # when something came in, or the pool grew

    def wanted(self, in_hand: int) -> int:
        """Return how many tasks should run at a time when so many are in hand; the bounds are kept anyway."""
        return in_hand

    def start(self) -> None:
        """Nothing to do: the pool starts with `minimum`."""

    def stop(self) -> None:
        """Nothing to do: the pool is closed by others."""

    def work_came_in(self) -> None:
        """Grow at once, if more is in hand than the pool runs."""
        self._active_at = time.monotonic()
        missing = self._bounded() - self._pool.size
        if missing > 0:
            self._resize(missing)

    def tick(self, now: float) -> float:
        """Shrink, if that has been called for long enough."""
        missing = self._bounded() - self._pool.size
        if missing > 0:
            self._active_at = now
            self._resize(missing)
        elif missing < 0 and now - self._active_at >= self.keepalive:
            self._resize(missing)
        return ROUND

    def update(self, maximum: int | None = None, minimum: int | None = None) -> tuple[int, int]:
        """Set other bounds, which hold at once, and return both.

        Raises:
            ValueError: these are no bounds, or the pool cannot be as large as that.
        """
        most = self.maximum if maximum is None else maximum
        least = self.minimum if minimum is None else minimum
        if not 0 <= least <= most or most < 1:
            raise ValueError(f"The pool cannot have at least {least} and at most {most} children.")
        if least > self._pool.size:
            self._resize(least - self._pool.size)
        elif most < self._pool.size:
            self._resize(most - self._pool.size)
        self.maximum, self.minimum = most, least
        return most, least

    def info(self) -> dict[str, Any]:
        """Return what `inspect stats` shows: the bounds, the pool's size, and how many tasks are in hand."""
        return {
            "max": self.maximum,
            "min": self.minimum,
            "current": self._pool.size,
            "qty": self._in_hand(),
        }

    def _bounded(self) -> int:
        return min(max(self.wanted(self._in_hand()), self.minimum), self.maximum)

    def _resize(self, by: int) -> None:
        if by > 0:
            self._pool.grow(by)
        else:
            self._pool.shrink(-by)
        log_lines.scaled(by, self._pool.size)


def autoscaler(pool: Pool, in_hand: Callable[[], int], bounds: tuple[int, int]) -> Autoscaler:
    """Return what scales the pool between `bounds`, the most and the least, by the settings.

    Raises:
        djqueue.exceptions.ImproperlyConfigured: WORKER_AUTOSCALER cannot be imported.
    """
    try:
        make = import_string(settings.WORKER_AUTOSCALER)
    except ImportError as error:
        raise ImproperlyConfigured(
            f"WORKER_AUTOSCALER is {settings.WORKER_AUTOSCALER!r}, which cannot be imported: {error}"
        ) from error
    made: Autoscaler = make(
        pool, in_hand, maximum=bounds[0], minimum=bounds[1], keepalive=settings.WORKER_AUTOSCALE_KEEPALIVE
    )
    return made
