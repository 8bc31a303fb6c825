"""What a command sees of the worker it runs in.

The service fills it in once; commands read it, and call what changes things, in the loop's thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from djqueue.core.registry import tasks
from djqueue.messaging.contract import Broker, Source
from djqueue.messaging.startboard import Started
from djqueue.worker.admission import Admission
from djqueue.worker.autoscale import Autoscaler
from djqueue.worker.dispatch import Dispatcher
from djqueue.worker.eventstream import EventStream
from djqueue.worker.heart import Heart
from djqueue.worker.ledger import Entry, Ledger
from djqueue.worker.options import WorkerOptions
from djqueue.worker.pools.contract import Pool
from djqueue.worker.revocations import Revocations
from djqueue.worker.waiting_room import WaitingRoom


@dataclass(slots=True)
class WorkerState:
    """The live parts of the worker. `stop` begins a clean stop and is told why."""

    options: WorkerOptions
    broker: Broker
    ledger: Ledger
    pool: Pool
    source: Source
    admission: Admission
    dispatcher: Dispatcher
    waiting_room: WaitingRoom
    revocations: Revocations
    events: EventStream
    heart: Heart
    stop: Callable[[str], None]
    autoscaler: Autoscaler | None = None
    started_at: float = field(default_factory=time.monotonic)

    @property
    def hostname(self) -> str:
        """The node name."""
        return self.options.hostname

    @property
    def tasks(self) -> Any:
        """The registry of tasks."""
        return tasks

    def running(self) -> list[tuple[Entry, Started]]:
        """Return what user code runs now, longest first."""
        found = []
        for started in self.pool.running():
            entry = self.ledger.get(started.number)
            if entry is not None:
                found.append((entry, started))
        return sorted(found, key=lambda pair: pair[1].since)

    def reserved(self) -> list[Entry]:
        """Return what was received and neither runs nor waits for its time."""
        elsewhere = {entry.number for entry, _ in self.running()}
        elsewhere |= {entry.number for _, entry in self.waiting_room.entries()}
        return [entry for entry in self.ledger if entry.number not in elsewhere]
