"""The worker's book: what it holds, since when, and what it has learnt of each task's run time.

Admission opens an entry for each delivery that will run; settlement closes it. Nothing else keeps lists of
tasks: `active`, `reserved` and the counts that operators ask for are read from here.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from itertools import count

from djqueue.core.requests import Request
from djqueue.messaging.delivery import Delivery, Settlement
from djqueue.worker.pools.contract import Job


class Entry:
    """One delivery being dealt with. Written and read by the loop's thread only."""

    __slots__ = (
        *("acked", "delivery", "early_ack", "job", "number", "received", "request"),
        *("started_told", "start_announced"),
    )

    def __init__(self, delivery: Delivery, request: Request, job: Job) -> None:
        self.number = job.number
        self.delivery = delivery
        self.request = request
        self.job = job
        self.received = time.time()
        #: acknowledged before it starts (acks_late=False)
        self.acked = False
        #: that acknowledgement, while it is being tried
        self.early_ack: Settlement | None = None
        #: the state STARTED was stored for it
        self.started_told = False
        #: its start was told to monitors
        self.start_announced = False


class Ledger:
    """All open entries by job number, run times by task name, totals."""

    #: weight of the newest run time in the moving average
    FRESHNESS = 0.1
    #: how many times longer one run can make the average
    LEAP = 4.0

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}
        self._numbers = count(1)
        self._runtimes: dict[str, float] = {}
        #: finished runs by task name
        self.totals: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def open(
        self,
        delivery: Delivery,
        request: Request,
        *,
        soft_limit: float | None = None,
        hard_limit: float | None = None,
    ) -> Entry:
        """Enter a delivery that will run, and make a job of it with the next number; limits in seconds."""
        job = Job(
            number=next(self._numbers),
            tag=delivery.tag,
            name=request.task,
            message=delivery.message,
            delivery_info=request.delivery_info,
            starts=delivery.starts,
            soft_limit=soft_limit,
            hard_limit=hard_limit,
        )
        entry = self._entries[job.number] = Entry(delivery, request, job)
        return entry

    def get(self, number: int) -> Entry | None:
        """Return the open entry with that number, or None."""
        return self._entries.get(number)

    def close(self, entry: Entry) -> None:
        """Strike the entry out; one that is closed already is fine."""
        self._entries.pop(entry.number, None)

    def expected_runtime(self, name: str) -> float:
        """Return the task's average run time in seconds, 0 when it never ran here."""
        return self._runtimes.get(name, 0.0)

    def learn(self, name: str, runtime: float) -> None:
        """Count one finished run of `runtime` seconds.

        One run moves the average to at most four times what it was: a pause of the machine is soon forgotten,
        and a task that has become slow is known after a few runs.
        """
        self.totals[name] += 1
        known = self._runtimes.get(name)
        if known is None:
            self._runtimes[name] = max(runtime, 1e-6)
        elif runtime > known * self.LEAP:
            self._runtimes[name] = known * self.LEAP
        else:
            self._runtimes[name] = known + self.FRESHNESS * (runtime - known)
