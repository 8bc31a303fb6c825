"""Tells monitors that the worker lives: online, a heartbeat every few seconds, offline.

A component of the worker. Monitors take a worker for dead when they have not heard from it for two beats.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from djqueue.worker.eventstream import EventStream

#: the time between two beats where nobody says otherwise, seconds
EVERY = 2.0


class Heart:
    """Beats `every` so many seconds, while `is_beating`.

    `counts` returns how many tasks run now, and how many have ended.
    """

    def __init__(
        self,
        events: EventStream,
        counts: Callable[[], tuple[int, int]],
        *,
        every: float = EVERY,
        is_beating: bool = True,
    ) -> None:
        self._every = every
        self._events = events
        self._counts = counts
        self._is_beating = is_beating

    def start(self) -> None:
        """Say that the worker is there."""
        if self._is_beating:
            self._tell("worker-online", self._every)

    def tick(self, now: float) -> float:
        """Beat."""
        if not self._is_beating:
            return float("inf")
        self.beat(self._every)
        return self._every

    def beat(self, every: float) -> None:
        """Send a heartbeat that announces the next one in `every` seconds."""
        self._tell("worker-heartbeat", every)

    def stop(self) -> None:
        """Say that the worker leaves."""
        if self._is_beating:
            self._tell("worker-offline", self._every)

    def _tell(self, kind: str, every: float) -> None:
        active, processed = self._counts()
        self._events.worker(
            kind,
            freq=every,
            active=active,
            processed=processed,
            loadavg=[round(load, 2) for load in os.getloadavg()],
            **software(),
        )


def software() -> dict[str, Any]:
    """Return what this program is, as events and reports name it."""
    try:
        own = version("djqueue")
    except PackageNotFoundError:  # run from a directory that was never installed
        own = "unknown"
    return {"sw_ident": "djqueue", "sw_ver": own, "sw_sys": platform.system()}
