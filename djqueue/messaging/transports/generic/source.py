"""Receiving for one worker through kombu: a thread fetches, this answers.

Messages are acknowledged over the connection they came by; what is given back counted is sent anew with its
count and then acknowledged, so that it may come twice but is never lost by the worker. What is put off is
held here. A broken connection takes what was handed out over it along: those deliveries are lost.
"""

# kombu is typed in part.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

from djqueue.core.messages import Destination, Outgoing
from djqueue.exceptions import DjqueueError, OperationalError
from djqueue.messaging import log_lines
from djqueue.messaging.contract import Source, Watch
from djqueue.messaging.delivery import Delivery, How, Settlement
from djqueue.messaging.tables import deadletters
from djqueue.messaging.transports.generic.fetcher import Fetched, Fetcher
from djqueue.messaging.transports.generic.link import Link
from djqueue.messaging.transports.generic.messages import Unreadable, again, delivery_of, unread

#: how often a source looks round without being woken, seconds
ROUND = 1.0


@dataclass(slots=True)
class Held:
    """A message in hand, which was begun `starts` times in vain."""

    fetched: Fetched
    starts: int = 0


class GenericSource(Source):
    """One worker's consumer."""

    def __init__(self, link: Link, queues: Sequence[str], consumer: str) -> None:
        self.queues = tuple(dict.fromkeys(queues))
        self._link = link
        self._consumer = consumer
        self._wake: Callable[[], None] = lambda: None
        self._fetcher: Fetcher | None = None
        self._numbers = count(1)
        self._held: dict[str, Held] = {}
        self._ready: deque[Held] = deque()  # put off, and due
        self._later: list[tuple[float, int, Held]] = []
        self._done: set[str] = set()  # answers carried out while their caller saw an error
        self._to_bury: list[Settlement] = []

    def open(self, watch: Watch, wake: Callable[[], None]) -> None:
        """Connect and begin to fetch; the thread calls `wake`, there is no file to watch."""
        self._wake = wake
        self._fetcher = Fetcher(self._link, self.queues, wake)
        with self.opening():
            self._fetcher.start()
        wake()

    def receive(self, room: int) -> list[Delivery]:
        """Return what has come, and let as much be fetched as there is room for still."""
        if room <= 0 or self._fetcher is None:
            return []
        taken: list[Held] = []
        while self._ready and len(taken) < room:
            held = self._ready.popleft()
            if self._is_ours(held):
                taken.append(held)
        taken += self._of_our_queues(self._fetcher.take(room - len(taken)))
        deliveries = self._read(taken)
        with suppress(OperationalError):  # what could not be read stays with us, and is tried again
            self._bury()
        in_hand = len(self._held) + len(self._ready) + len(self._later)
        self._fetcher.want(room - len(deliveries), in_hand)
        if not deliveries and self._fetcher.error is not None:
            raise OperationalError(f"Nothing can be fetched from {self._link!r}: {self._fetcher.error}")
        return deliveries

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Carry the answers out one after the other; return the deliveries that are no longer ours.

        Raises:
            djqueue.exceptions.OperationalError: one could not be; the same may be asked for again.
        """
        lost = []
        for one in settlements:
            tag = one.delivery.tag
            held = self._held.get(tag)
            if tag in self._done:
                continue
            if held is None or not self._is_ours(held):
                lost.append(one.delivery)
            else:
                self._answer(one, held)
                self._done.add(tag)
            self._held.pop(tag, None)
        self._done.difference_update([one.delivery.tag for one in settlements])
        return lost

    def tend(self, now: float) -> float:
        """Bury what could not be read; let what is due be taken."""
        self._bury()
        moment = time.time()
        while self._later and self._later[0][0] <= moment:
            self._ready.append(heappop(self._later)[2])
        if self._ready:
            self._wake()
        return min(self._later[0][0] - moment, ROUND) if self._later else ROUND

    def add_queue(self, queue: str) -> None:
        """Consume the queue as well."""
        self._consume(tuple(dict.fromkeys((*self.queues, queue))))

    def cancel_queue(self, queue: str) -> None:
        """Consume the queue no more."""
        self._consume(tuple(one for one in self.queues if one != queue))

    def close(self) -> None:
        """Give back everything, uncounted, and leave; what cannot be given back kombu tries to."""
        fetcher, self._fetcher = self._fetcher, None
        if fetcher is None:
            return
        fetcher.stop()
        waiting = [*self._held.values(), *self._ready, *(held for _, _, held in self._later)]
        waiting += map(Held, fetcher.take())
        for held in waiting:
            if held.fetched.epoch == fetcher.epoch:
                try:
                    self._give_back(held, is_counted=bool(held.starts))
                except DjqueueError as error:
                    log_lines.not_left(str(error))
                    break
        self._held.clear()
        self._ready.clear()
        self._later.clear()
        fetcher.close()

    # -- answers -------------------------------------------------------------------------------------

    def _answer(self, one: Settlement, held: Held) -> None:
        held.starts += one.started
        if one.how is How.DELAY:
            heappush(self._later, (one.due or 0.0, next(self._numbers), held))
        elif one.how is How.RELEASE:
            self._give_back(held, is_counted=bool(held.starts))
        elif one.how is How.BURY:
            one.delivery.starts = held.starts
            with deadletters.kept([one], self._consumer):
                self._acknowledge(held)
        else:
            self._acknowledge(held)

    def _acknowledge(self, held: Held) -> None:
        with self._link.errors():
            held.fetched.message.ack()

    def _give_back(self, held: Held, *, is_counted: bool) -> None:
        """Put the message into its queue: by the broker's own means, or as a copy that tells of its past."""
        message, queue, _ = held.fetched
        if self._link.traits.redelivers and not is_counted:
            with self._link.errors():
                message.requeue()
            return
        try:
            read = delivery_of(message, "", queue).message
        except Unreadable as error:
            buried = unread(message, "", queue).bury(error.reason, str(error))
            with deadletters.kept([buried], self._consumer):
                self._acknowledge(held)
            return
        copy = Outgoing(again(read, held.starts), Destination("", queue, queue))
        with self._link.channel() as channel:
            self._link.publish(channel, copy)
        self._acknowledge(held)

    def _is_ours(self, held: Held) -> bool:
        return self._fetcher is not None and held.fetched.epoch == self._fetcher.epoch

    # -- reading -------------------------------------------------------------------------------------

    def _read(self, taken: Sequence[Held]) -> list[Delivery]:
        deliveries = []
        for held in taken:
            tag = str(next(self._numbers))
            self._held[tag] = held
            try:
                delivery = delivery_of(held.fetched.message, tag, held.fetched.queue)
            except Unreadable as error:
                delivery = unread(held.fetched.message, tag, held.fetched.queue)
                self._to_bury.append(delivery.bury(error.reason, str(error)))
                continue
            held.starts = delivery.starts = max(held.starts, delivery.starts)
            delivery.redelivered |= held.starts > 0
            deliveries.append(delivery)
        return deliveries

    def _bury(self) -> None:
        if not self._to_bury:
            return
        lost = self.settle(self._to_bury)
        buried, self._to_bury = self._to_bury, []
        if self.on_buried is not None:
            for reason in sorted({one.reason for one in buried}):
                kept = [one.delivery for one in buried if one.reason == reason and one.delivery not in lost]
                self.on_buried(kept, reason)

    # -- queues --------------------------------------------------------------------------------------

    def _consume(self, queues: tuple[str, ...]) -> None:
        self.queues = queues
        if self._fetcher is not None:
            self._fetcher.consume(queues)
            self._ready += self._of_our_queues(self._fetcher.take())
        self._wake()

    def _of_our_queues(self, fetched: Sequence[Fetched]) -> list[Held]:
        """Return what is in hand now; what came from queues that were given up meanwhile goes back."""
        ours = []
        for one in fetched:
            if one.queue in self.queues:
                ours.append(Held(one))
            else:
                self._give_back(Held(one), is_counted=False)
        return ours
