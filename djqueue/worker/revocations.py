"""What this worker knows not to run: ids of revoked tasks, and marks of revoked stamps (`core/stamps.py`).

Bounded in number and in time. Remote control adds to it, and so does the broker's record, read at the start
and again every few seconds: a revocation holds although nobody was up to hear it. Admission and dispatch ask.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress

from djqueue.conf import settings
from djqueue.core.stamps import is_mark
from djqueue.exceptions import OperationalError
from djqueue.messaging.contract import Broker

#: how often the broker's record is read again, seconds
READ_EVERY = 5.0
#: records are looked for from so long before the last look: transactions commit late, clocks differ, seconds
OVERLAP = 60.0


class Revocations:
    """The ids, oldest first. Written and read by the loop's thread only."""

    def __init__(self) -> None:
        self._most: int = settings.WORKER_REVOKES_MAX
        self._expires: float = settings.REVOCATION_EXPIRES
        self._ids: dict[str, float] = {}  # id → when it was revoked, seconds since the epoch

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def task_ids(self) -> list[str]:
        """Return the ids of revoked tasks, without the marks of revoked stamps."""
        return [one for one in self._ids if not is_mark(one)]

    def add(self, task_ids: Iterable[str], when: float | None = None) -> set[str]:
        """Take the ids in, revoked at `when` (now); return those that were not known."""
        moment = time.time() if when is None else when
        fresh = dict.fromkeys((one for one in task_ids if one not in self._ids), moment)
        if fresh:
            self._ids.update(fresh)
            self._prune()
        return set(fresh)

    def _prune(self) -> None:
        oldest = time.time() - self._expires
        while self._ids:
            first = next(iter(self._ids))
            if len(self._ids) <= self._most and self._ids[first] >= oldest:
                return
            del self._ids[first]


class Record:
    """Reads the broker's record of revocations now and then; a component of the worker."""

    def __init__(self, broker: Broker, revocations: Revocations) -> None:
        self._broker = broker
        self._revocations = revocations
        self._read_until = 0.0

    def start(self) -> None:
        """Read all of it, before the first message is received."""
        self._read()

    def tick(self, now: float) -> float:
        """Read what is new. A broker that is away is asked again at the next turn."""
        with suppress(OperationalError):  # the source says so
            fresh = self._read()
            if fresh:
                # This worker may have been handed one of them before it knew, and put it off again.
                self._broker.remember_revoked(sorted(fresh))
        return READ_EVERY

    def stop(self) -> None:
        """Keep nothing open."""

    def _read(self) -> set[str]:
        began, fresh = time.time(), set()
        for task_id, when in self._broker.revoked_since(self._read_until - OVERLAP):
            fresh |= self._revocations.add([task_id], when)
        self._read_until = began
        return fresh
