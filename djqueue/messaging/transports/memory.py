"""The memory broker: queues that live in one process, for tests and the in-process worker fixture.

It keeps the promises of the database broker as far as one process can: order, priorities, delays, dead
letters, starts. When the process ends, everything ends; `runworker` refuses it.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from threading import RLock
from typing import Any
from weakref import WeakSet

from djqueue.core.messages import Destination, Outgoing
from djqueue.exceptions import OperationalError
from djqueue.messaging import brokers
from djqueue.messaging.contract import Broker, Capabilities, Source, Watch
from djqueue.messaging.delivery import Delivery, How, Settlement

#: how often a source looks round without being woken, seconds
ROUND = 1.0


@dataclass(slots=True, order=True)
class Kept:
    """One message in memory, ordered as it will be handed out."""

    priority: int
    number: int
    queue: str = field(compare=False)
    packed: tuple[Any, ...] = field(compare=False)
    starts: int = field(default=0, compare=False)
    redelivered: bool = field(default=False, compare=False)

    def delivery(self, tag: str) -> Delivery:
        """Return the message as handed out, with headers and properties that nobody else shares."""
        outgoing = Outgoing.unpack(self.packed)
        message, place = outgoing.message, outgoing.destination
        message.headers, message.properties = dict(message.headers), dict(message.properties)
        return Delivery(
            tag,
            self.queue,
            message,
            starts=self.starts,
            redelivered=self.redelivered,
            exchange=place.exchange,
            routing_key=place.routing_key,
        )


@dataclass(slots=True)
class Dead:
    """A dead letter in memory."""

    kept: Kept
    reason: str
    detail: str


class MemoryBroker(Broker):
    """Queues in the memory of this process, one set of them for each URL."""

    capabilities = Capabilities(
        delays=True,
        counts_starts=True,
        keeps_dead_letters=True,
        fences=True,
        in_process=True,
        by_age=True,
        shortest_delay=0.0,
        keeps_unconsumed_delays=True,
    )

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.dead_letters: list[Dead] = []
        self._lock = RLock()  # guards everything below; senders and sources take it
        self._numbers = count(1)
        self._ready: dict[str, list[Kept]] = {}
        self._later: dict[str, list[tuple[float, Kept]]] = {}
        self._sources: WeakSet[MemorySource] = WeakSet()

    def send_many(self, outgoing: Sequence[Outgoing]) -> None:
        """Put the messages into their queues.

        Raises:
            djqueue.exceptions.OperationalError: one goes to an exchange to which nothing is bound.
        """
        filled: set[str] = set()
        with self._lock:
            for one in outgoing:
                queues = _queues_for(one.destination)
                if not queues:
                    raise OperationalError(
                        f"No queue is bound to exchange {one.destination.exchange!r} with routing key"
                        f" {one.destination.routing_key!r}: name the queue, or declare it in"
                        " DJQUEUE['TASK_QUEUES']."
                    )
                for queue in queues:
                    self.put(Kept(_priority(one), next(self._numbers), queue, one.pack()), one.due)
                filled.update(queues)
        self.wake(filled)

    def source(self, queues: Sequence[str], consumer: str) -> MemorySource:
        """Return a source that receives from `queues`."""
        return MemorySource(self, queues, consumer)

    def size(self, queue: str) -> int:
        """Return how many messages wait in `queue`, those not yet due included."""
        with self._lock:
            return len(self._ready.get(queue, ())) + len(self._later.get(queue, ()))

    def purge(self, queue: str) -> int:
        """Delete what waits in `queue`, and return how many messages that were."""
        with self._lock:
            return len(self._ready.pop(queue, ())) + len(self._later.pop(queue, ()))

    def after_fork(self) -> None:
        """Start empty: the parent's messages are the parent's."""
        self._lock = RLock()
        self.clear()

    def queues(self) -> list[str]:
        """Return the names of the queues in which messages wait."""
        with self._lock:
            return [queue for queue in {**self._ready, **self._later} if self.size(queue)]

    def clear(self) -> None:
        """Forget every message and every dead letter."""
        with self._lock:
            self._ready.clear()
            self._later.clear()
            self.dead_letters.clear()

    # -- for sources ---------------------------------------------------------------------------------

    def join(self, source: MemorySource) -> None:
        """Wake this source from now on."""
        with self._lock:
            self._sources.add(source)

    def leave(self, source: MemorySource) -> None:
        """Wake this source no more."""
        with self._lock:
            self._sources.discard(source)

    def put(self, kept: Kept, due: float | None = None) -> None:
        """Put a message into its queue; a number smaller than all others puts it at the head."""
        with self._lock:
            if due is None or due <= time.time():
                heapq.heappush(self._ready.setdefault(kept.queue, []), kept)
            else:
                heapq.heappush(self._later.setdefault(kept.queue, []), (due, kept))

    def take(self, queues: Sequence[str], room: int) -> list[Kept]:
        """Take up to `room` messages out, the first to run first."""
        taken: list[Kept] = []
        with self._lock:
            self._ripen(queues)
            while len(taken) < room:
                heads = [self._ready[queue] for queue in queues if self._ready.get(queue)]
                if not heads:
                    break
                taken.append(heapq.heappop(min(heads, key=lambda heap: heap[0])))
        return taken

    def has_ready(self, queues: Sequence[str]) -> bool:
        """Return whether a message may be taken now."""
        with self._lock:
            self._ripen(queues)
            return any(self._ready.get(queue) for queue in queues)

    def next_due(self, queues: Sequence[str]) -> float | None:
        """Return when the next message becomes due, in seconds since the epoch."""
        with self._lock:
            return min((self._later[queue][0][0] for queue in queues if self._later.get(queue)), default=None)

    def bury(self, kept: Kept, reason: str, detail: str) -> None:
        """Keep a dead letter."""
        with self._lock:
            self.dead_letters.append(Dead(kept, reason, detail))

    def wake(self, queues: set[str]) -> None:
        """Wake the sources of these queues."""
        with self._lock:
            sources = list(self._sources)
        for source in sources:
            if not queues.isdisjoint(source.queues):
                source.wake()

    def _ripen(self, queues: Sequence[str]) -> None:
        now = time.time()
        for queue in queues:
            later = self._later.get(queue)
            while later and later[0][0] <= now:
                heapq.heappush(self._ready.setdefault(queue, []), heapq.heappop(later)[1])


class MemorySource(Source):
    """One consumer of a memory broker."""

    def __init__(self, broker: MemoryBroker, queues: Sequence[str], consumer: str) -> None:
        self.queues = tuple(dict.fromkeys(queues))
        self.consumer = consumer
        self.wake: Callable[[], None] = _nobody
        self._broker = broker
        self._held: dict[str, Kept] = {}
        self._tags = count(1)

    def open(self, watch: Watch, wake: Callable[[], None]) -> None:
        """Ask to be woken; there is no file to watch, `wake` is called by the sender's thread."""
        self.wake = wake
        self._broker.join(self)
        wake()

    def receive(self, room: int) -> list[Delivery]:
        """Take up to `room` messages."""
        deliveries = []
        for kept in self._broker.take(self.queues, room):
            tag = f"{kept.number}-{next(self._tags)}"
            self._held[tag] = kept
            deliveries.append(kept.delivery(tag))
        return deliveries

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Carry the answers out; return the deliveries that were no longer ours."""
        lost, queues = [], set()
        for one in settlements:
            kept = self._held.pop(one.delivery.tag, None)
            if kept is None:
                lost.append(one.delivery)
                continue
            kept.starts += int(one.started)
            kept.redelivered |= one.started or one.how is How.RELEASE
            if one.how is How.BURY:
                self._broker.bury(kept, one.reason, one.detail)
            elif one.how is not How.ACK:
                self._broker.put(kept, one.due if one.how is How.DELAY else None)
                queues.add(kept.queue)
        if queues:
            self._broker.wake(queues)
        return lost

    def tend(self, now: float) -> float:
        """Wake the loop when something is due; return when to come again."""
        if self._broker.has_ready(self.queues):
            self.wake()
        due = self._broker.next_due(self.queues)
        return ROUND if due is None else min(max(due - time.time(), 0.0), ROUND)

    def add_queue(self, queue: str) -> None:
        """Receive from the queue as well."""
        self.queues = tuple(dict.fromkeys((*self.queues, queue)))
        self.wake()

    def cancel_queue(self, queue: str) -> None:
        """Receive nothing more from the queue."""
        self.queues = tuple(one for one in self.queues if one != queue)

    def close(self) -> None:
        """Give back everything unsettled, uncounted, and leave."""
        self._broker.leave(self)
        held, self._held = self._held, {}
        for kept in held.values():
            kept.redelivered = True
            self._broker.put(kept)
        if held:
            self._broker.wake({kept.queue for kept in held.values()})


def _nobody() -> None:
    """Wake nobody: the source is not open."""


def _queues_for(place: Destination) -> list[str]:
    return brokers.queues().matching(place) if place.exchange else [place.routing_key]


def _priority(outgoing: Outgoing) -> int:
    value = outgoing.message.properties.get("priority")
    return int(min(max(value, 0), 255)) if isinstance(value, int | float) and value == value else 0
