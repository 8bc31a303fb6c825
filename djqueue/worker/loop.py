"""The worker's loop: one screen of verbs, one thread, no work of its own.

Deliveries come from the source, are judged by admission, run in the pool, and leave through the settler.
Everything the loop calls returns quickly; it sleeps in one place only, until something happens.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from signal import SIGQUIT

from djqueue.messaging.contract import Source
from djqueue.messaging.delivery import Delivery
from djqueue.worker import log_lines
from djqueue.worker.admission import Admission, What
from djqueue.worker.announcer import Announcer
from djqueue.worker.autoscale import Autoscaler
from djqueue.worker.components import Components
from djqueue.worker.dispatch import Dispatcher
from djqueue.worker.ledger import Entry, Ledger
from djqueue.worker.os_signals import OsSignals
from djqueue.worker.outages import Outage
from djqueue.worker.pools.contract import Pool
from djqueue.worker.settlement import Settler
from djqueue.worker.waiting import Waiting
from djqueue.worker.waiting_room import WaitingRoom

#: most entries that may wait for their rate limit or their moment inside the worker
WAITING_ROOM_SIZE = 1_000
#: the loop gets up at least this often, seconds
LONGEST_SLEEP = 5.0
#: while children have enough in hand, messages are claimed so many at a time
BATCH = 32
#: how long a leaving worker tries to settle with a broker or store that is away, seconds
LAST_TRIES = 10.0


@dataclass(slots=True)
class Parts:
    """What one worker is made of; the service puts it together."""

    source: Source
    pool: Pool
    ledger: Ledger
    admission: Admission
    announcer: Announcer
    settler: Settler
    dispatcher: Dispatcher
    components: Components
    waiting: Waiting
    waiting_room: WaitingRoom
    autoscaler: Autoscaler | None = None

    def in_hand(self) -> int:
        """Return how many tasks are held that could run now."""
        return len(self.ledger) - len(self.waiting_room)


class Loop:
    """Runs until it was asked to stop and everything in hand is settled or given back.

    Life: working → (first signal) nothing new is received, what has not started is given back, what runs may
    end within the grace period → (grace over, or second signal) late-acknowledged tasks are given back,
    uncounted, and their children killed → done.

    `prefetch_multiplier` is the most deliveries held at once for each child (0: as many as the pool asks
    for), `grace` the seconds that running tasks have to end (None: for ever).
    """

    def __init__(self, parts: Parts, *, prefetch_multiplier: int, grace: float | None) -> None:
        self._parts = parts
        self._waiting_room = parts.waiting_room
        self._signals = OsSignals(parts.waiting.wake)
        self._outage = Outage(
            lambda error: log_lines.broker_lost(f"{type(error).__name__}: {error}"), log_lines.broker_restored
        )
        self._prefetch_multiplier = prefetch_multiplier
        self._grace = grace
        self._hungry = True  # messages may be waiting in the broker
        self._tend_at = dict.fromkeys(("pool", "source", "components"), 0.0)  # when each wants to be called
        self._stops_asked = 0
        self._leave_at = math.inf  # when late-acknowledged tasks are given back
        self._give_up_at = math.inf  # when ends that cannot be settled are left to the next worker

    def run(self) -> None:
        """Work until told to stop."""
        self._signals.install()
        try:
            while not self._is_done():
                self.cycle()
        finally:
            self._signals.restore()

    def cycle(self) -> None:
        """Wait, obey signals, collect, settle and feed, tend."""
        parts = self._parts
        parts.waiting.wait(self._seconds_to_sleep())
        now = time.monotonic()
        self._obey_signals(now)
        parts.dispatcher.take(parts.pool.collect())
        parts.dispatcher.tell_started(now)
        if parts.settler.unanswered > parts.pool.size:  # quick tasks: children first, the store may be slow
            self._feed(now)
            self._settle(now)
        else:  # what a kill makes run again is at most one task for each child, running or just ended
            self._settle(now)
            self._feed(now)
        if not self._is_done():  # a broker that hangs must not be asked for anything more
            self._tend(now)

    def wake(self) -> None:
        """Note that messages may have arrived (the source calls this), and get up."""
        self._hungry = True
        self._tend_at["source"] = 0.0  # it may know of an earlier due message now
        self._parts.waiting.wake()

    def stop(self, because: str) -> None:
        """Begin to stop, as the first TERM does; a second call ends the grace period."""
        self._stops_asked += 1
        if self._stops_asked > 1:
            self._leave_at = 0.0
            return
        parts = self._parts
        parts.announcer.stopping(because, len(parts.ledger), self._grace)
        self._leave_at = time.monotonic() + (math.inf if self._grace is None else self._grace)
        parts.dispatcher.stopping = True
        for entry in [*self._waiting_room.empty(), *parts.dispatcher.taken_back()]:
            parts.dispatcher.give_back(entry)
        parts.pool.take_back()

    # -- the verbs of a cycle, in order --------------------------------------------------------------

    def _obey_signals(self, now: float) -> None:
        for signum in self._signals.taken():
            self.stop(signum.name)
            if signum == SIGQUIT:
                self._leave_at = 0.0
        if now >= self._leave_at:
            self._leave(now)

    def _settle(self, now: float) -> None:
        settler = self._parts.settler
        if not self._may_linger() or settler.is_worth_a_batch(now):
            settler.settle(now)

    def _feed(self, now: float) -> None:
        if not self._stops_asked:
            self._release_due(now)
            self._receive(now)

    def _release_due(self, now: float) -> None:
        for entry in self._parts.dispatcher.taken_back():
            self._waiting_room.put(entry, now)
        if len(self._waiting_room) and (room := self._pool_room()) > 0:
            self._submit(self._waiting_room.ready(now, most=room))

    def _receive(self, now: float) -> None:
        room = self._room() if self._hungry and self._outage.may_try(now) else 0
        if room <= 0 or (room < BATCH and self._may_linger()):
            return
        self._hungry = False  # before looking: a thread of the source may call `wake` while it looks
        try:
            deliveries = self._parts.source.receive(room)
        except Exception as error:  # whatever the driver raises: the broker is away, and comes back
            self._hungry = True
            self._outage.note(error, now)
            return
        self._outage.over(now)
        if len(deliveries) >= room:
            self._hungry = True
        self._admit(deliveries)

    def _room(self) -> int:
        if self._parts.settler.is_full or len(self._waiting_room) >= WAITING_ROOM_SIZE:
            return 0
        room = self._pool_room()
        if self._prefetch_multiplier:
            scaler = self._parts.autoscaler
            size = self._parts.pool.size if scaler is None else scaler.maximum
            most = self._parts.source.most_held = self._prefetch_multiplier * size
            room = min(room, most - self._parts.in_hand())
        return room

    def _pool_room(self) -> int:
        """Return how many more tasks the pool can take, or could if it grew."""
        parts = self._parts
        room = parts.pool.room()
        if parts.autoscaler is not None:
            room = max(room, parts.autoscaler.maximum - parts.in_hand())
        return room

    def _may_linger(self) -> bool:
        """Return whether children have enough in hand for batches to grow meanwhile.

        Only quick tasks are queued up in children; with slow ones, or few, nothing ever waits for company.
        """
        return not self._stops_asked and self._parts.in_hand() > 4 * self._parts.pool.size

    def _admit(self, deliveries: list[Delivery]) -> None:
        ready: list[Entry] = []
        for delivery in deliveries:
            verdict = self._parts.admission.judge(delivery)
            if verdict.entry is None:
                self._parts.settler.add(verdict.settlement, verdict.outcome)
            elif verdict.what is What.WAIT:
                self._waiting_room.put(verdict.entry, verdict.until)
            else:
                ready.append(verdict.entry)
        self._submit(ready)

    def _submit(self, entries: list[Entry]) -> None:
        if entries:
            self._parts.dispatcher.submit(entries)
            if self._parts.autoscaler is not None:
                self._parts.autoscaler.work_came_in()

    def _tend(self, now: float) -> None:
        parts, due = self._parts, self._tend_at
        if now >= due["pool"] or parts.pool.needs_tending:
            due["pool"] = now + parts.pool.tend(now)
        if now >= due["components"] or parts.components.hurried:
            due["components"] = now + parts.components.tick(now)
        if now >= due["source"]:
            try:
                due["source"] = now + parts.source.tend(now)
            except Exception as error:  # as in _receive
                self._outage.note(error, now)
                due["source"] = now + self._outage.seconds_left(now)

    # -- sleeping and leaving ------------------------------------------------------------------------

    def _seconds_to_sleep(self) -> float:
        now = time.monotonic()
        parts = self._parts
        moments = [
            min(self._tend_at.values()) - now,
            LONGEST_SLEEP,
            self._leave_at - now,
            self._give_up_at - now,
            parts.settler.seconds_to_next(now, lingering=self._may_linger()),
            parts.dispatcher.seconds_to_tell_started(),
        ]
        if not self._stops_asked:
            if self._hungry and (room := self._room()) > 0 and (room >= BATCH or not self._may_linger()):
                moments.append(self._outage.seconds_left(now))
            if len(self._waiting_room) and self._pool_room() > 0:
                moments.append(self._waiting_room.seconds_to_next(now))
        return max(min(moments), 0.0)

    def _leave(self, now: float) -> None:
        """Give back what may be given back; early-acknowledged tasks are cut only when asked twice."""
        self._leave_at = math.inf
        self._give_up_at = now + LAST_TRIES
        killed = self._parts.dispatcher.kill_running(early_ones_too=self._stops_asked > 1)
        if killed:
            log_lines.grace_over(killed)

    def _is_done(self) -> bool:
        if not self._stops_asked or len(self._parts.ledger):
            return False
        if math.isinf(self._give_up_at):
            self._give_up_at = time.monotonic() + LAST_TRIES
        return not len(self._parts.settler) or time.monotonic() >= self._give_up_at
