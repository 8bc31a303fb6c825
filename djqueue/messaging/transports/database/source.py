"""Receiving from tables for one worker: claim in batches, settle many at once, look after the dead.

The life of a source: it takes its place among the living and lets itself be woken; it claims what is ready
and settles what was claimed; about once a second it looks for messages that became due, for those that nobody
announced, and for what dead workers held; at the end it gives back what it still holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from django.db import DatabaseError, transaction

from djqueue.core.messages import WireMessage
from djqueue.messaging import brokers, log_lines
from djqueue.messaging.contract import Source, Watch
from djqueue.messaging.delivery import Delivery, How, Settlement
from djqueue.messaging.queues import is_bound
from djqueue.messaging.tables.failures import errors_of
from djqueue.messaging.tables.rows import Unreadable, to_delivery
from djqueue.messaging.transports.database import bindings
from djqueue.messaging.transports.database.claims import CHUNK, Claims, Row, owners
from djqueue.messaging.transports.database.contract import Remains, Vendor

#: above so many ids, and twice as many as were there last time, it is looked which are still held
PRUNED_AT = 1_000
#: how often the source looks round without being woken, seconds
ROUND = 1.0
#: the same when somebody may have died
SOON = 0.4
#: where nobody can wake the source it looks for messages by itself: so soon after the last one came, then
#: ever more seldom, seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5


class DatabaseSource(Source):
    """One worker's consumer on one database alias."""

    def __init__(self, vendor: Vendor, queues: Sequence[str], consumer: str) -> None:
        self.queues = tuple(dict.fromkeys(queues))
        self._vendor = vendor
        self._alias = vendor.alias
        self._presence = vendor.presence(consumer)
        self._claims = Claims(vendor, self.queues, consumer)
        self._wake: Callable[[], None] = _nobody
        self._is_open = False
        self._expects_more = True  # the last batch was full, so there is probably more
        self._serial = 0
        self._lost_until = 0  # deliveries up to this number belong to others
        self._holds: set[int] = set()  # ids of the messages that were handed out
        self._may_hold_more = False  # a claim failed, perhaps after it was committed
        self._most_holds = PRUNED_AT
        self._unreadable: list[tuple[Row, str]] = []  # claimed, and still to be buried
        self._missing: set[str] = set()  # claimers without a trace at the last round
        self._next_round = 0.0
        self._next_look = 0.0
        self._pause = FIRST_PAUSE

    def open(self, watch: Watch, wake: Callable[[], None]) -> None:
        """Take a place among the living, and take over what the dead left.

        Raises:
            djqueue.exceptions.OperationalError: the database cannot be used, or the name is taken.
        """
        self._wake = wake
        with self.opening(), errors_of(self._alias):
            self._vendor.prepare()
            self._presence.take()
            self._is_open = True
            if self._presence.is_pooled:
                log_lines.pooled(self._alias)
            self._presence.listen(lambda: self.queues, watch, self._be_woken)
            self._vendor.patiently(self._look_after_the_dead)
            self._vendor.patiently(self._bind)
        wake()

    def receive(self, room: int) -> list[Delivery]:
        """Claim up to `room` messages; what cannot be read is buried."""
        if room <= 0 or not self.queues or not self._presence.may_claim:
            return []
        # Asking first takes no lock: workers woken for one message do not queue up for the writer's.
        if self._vendor.looks_first and not (self._expects_more or self._claims.has_ready()):
            return []
        self._vendor.mend()
        self._release_strays()
        self._may_hold_more = True
        with self._vendor.claiming():
            rows = self._vendor.patiently(lambda: self._claims.take(room))
        self._may_hold_more = False
        self._expects_more = len(rows) >= room
        self._holds.update(row[0] for row in rows)
        if rows:
            self._pause, self._next_look = FIRST_PAUSE, 0.0
        deliveries = []
        for row in rows:
            self._serial += 1
            try:
                deliveries.append(to_delivery(row, f"{row[0]}-{self._serial}", self._presence.name))
            except Unreadable as error:
                self._unreadable.append((row, str(error)))
        if self._unreadable:
            try:
                self._bury_unreadable()
            except DatabaseError:  # the next round tries again; what was claimed must not be lost for it
                self._next_round = 0.0
        return deliveries

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Carry the answers out in one transaction; return the deliveries that were no longer ours."""
        return self._vendor.patiently(lambda: self._settle(settlements))

    def _settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        claims = self._claims
        pairs = [(self._key(one.delivery.tag), one) for one in settlements]
        back = [(key, one) for key, one in pairs if one.how is How.RELEASE]
        with self.together():
            ours = claims.delete([key for key, one in pairs if one.how is How.ACK])
            for started in (False, True):
                ours |= claims.release([key for key, one in back if one.started is started], started=started)
            for key, one in pairs:
                if one.how is How.DELAY:
                    ours |= claims.delay(key, one.due or 0.0, started=one.started)
                elif one.how is How.BURY:
                    ours |= claims.bury(key, one.reason, one.detail)
            if back:
                self._vendor.announce({one.delivery.queue for _, one in back})
        self._holds.difference_update(key for key, _ in pairs)
        return [one.delivery for key, one in pairs if key not in ours]

    def tend(self, now: float) -> float:
        """Go the round when it is time; let what is due be taken; return when to come again."""
        self._vendor.mend()
        if self._presence.is_lost:
            self._begin_anew()
        if now >= self._next_round:
            self._next_round = now + ROUND
            self._presence.take()
            self._bury_unreadable()
            self._release_strays()
            self._look_after_the_dead()
            if self._presence.suspects:
                self._next_round = now + SOON
            if self._claims.has_ready():
                self._wake()
        return max(min(self._next_round - now, self._seconds_to_look(now), self._seconds_to_due()), 0.0)

    def add_queue(self, queue: str) -> None:
        """Claim from the queue as well."""
        self._consume((*self.queues, queue))
        with errors_of(self._alias):
            self._bind()
        self._wake()

    def cancel_queue(self, queue: str) -> None:
        """Claim nothing more from the queue."""
        self._consume(one for one in self.queues if one != queue)

    def together(self) -> AbstractContextManager[Any]:
        """Return a transaction on the alias; blocks nest, and commit as one."""
        self._vendor.begin()
        return transaction.atomic(using=self._alias, savepoint=False)

    def close(self) -> None:
        """Give back everything, uncounted, and leave."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            with errors_of(self._alias):
                self._vendor.mend()
                self._vendor.patiently(self._give_everything_back)
        finally:
            self._presence.leave()

    def forget(self) -> None:
        """Close this process's copies of what is open; the parent goes on with its own."""
        self._is_open = False
        self._presence.forget()

    # -- the round -----------------------------------------------------------------------------------

    def _look_after_the_dead(self) -> None:
        for remains in self._presence.remains():
            begun = {_row_id(tag) for tag in remains.started_tags()}
            had_some = self._take_over(remains.claimer, begun, remains)
            if had_some or not remains.may_be_unborn:
                remains.clear()
        self._look_after_the_missing()

    def _look_after_the_missing(self) -> None:
        """Take over from claimers of whom there is no trace, when there was none a round ago either."""
        named = (owners(self._vendor.connection) | bindings.subscribers(self._alias)) - {self._presence.name}
        missing = named - self._presence.known() if named else set()
        for claimer in missing & self._missing:
            self._take_over(claimer, set())
        self._missing = missing

    def _take_over(self, claimer: str, begun: set[int], remains: Remains | None = None) -> bool:
        """Give back what a claimer that is gone held; return whether it held or subscribed to anything."""
        if not self._claims.holds(claimer):
            return bindings.drop_subscriber(self._alias, claimer)
        with self.together():
            if remains is not None and not remains.confirm():
                return False
            bindings.drop_subscriber(self._alias, claimer)
            held = self._claims.give_back_of(claimer, begun)
            self._vendor.announce({queue for _, queue in held})
        log_lines.recovered(len(held), sum(key in begun for key, _ in held), claimer)
        return True

    def _seconds_to_due(self) -> float:
        """Let due messages be taken, and return in how many seconds the next is due."""
        due = self._claims.next_due()
        if due is None:
            return float("inf")
        now = self._presence.now()
        if due > now:
            return due - now
        made = self._vendor.patiently(lambda: self._claims.make_ready(now))
        if made:
            self._vendor.announce(self.queues)
            self._wake()
        return 0.0 if made >= CHUNK else self._seconds_to_next_due()

    def _seconds_to_next_due(self) -> float:
        due = self._claims.next_due()
        return float("inf") if due is None else due - self._presence.now()

    def _seconds_to_look(self, now: float) -> float:
        """Look for messages when it is time, if nobody wakes us; return in how many seconds to look again."""
        if self._presence.hears:
            return float("inf")
        if now >= self._next_look:
            if self._next_look and self._claims.has_ready():
                self._wake()
            self._next_look = now + self._pause
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
        return self._next_look - now

    def _bind(self) -> None:
        """Declare the queues; those with a direct exchange are reached without a binding of theirs."""
        declared = map(brokers.queues().get, self.queues)
        bindings.declare(self._alias, [queue for queue in declared if is_bound(queue)], self._presence.name)

    # -- the rest ------------------------------------------------------------------------------------

    def _consume(self, queues: Iterable[str]) -> None:
        self.queues = tuple(dict.fromkeys(queues))
        self._claims = Claims(self._vendor, self.queues, self._presence.name)
        self._expects_more = True

    def _bury_unreadable(self) -> None:
        if not self._unreadable:
            return
        with self.together():
            for row, detail in self._unreadable:
                self._claims.bury(row[0], "undecodable", detail)
        buried, self._unreadable = self._unreadable, []
        self._holds.difference_update(row[0] for row, _ in buried)
        if self.on_buried is not None:  # the worker says so in the log
            self.on_buried([_shell(row) for row, _ in buried], "undecodable")
            return
        for row, detail in buried:
            log_lines.unreadable(row[2], str(row[0]), detail)

    def _release_strays(self) -> None:
        """Give back what a claim took whose answer was lost: nobody would run it as long as we live.

        Messages that a task of ours ended itself, in its transaction, are forgotten here, too.
        """
        if not self._may_hold_more and len(self._holds) < self._most_holds:
            return
        held = self._claims.held()
        strays = held - self._holds
        self._holds &= held
        self._most_holds = 2 * len(self._holds) + PRUNED_AT
        with self.together():
            self._claims.release(sorted(strays))
        self._may_hold_more = False
        if strays:
            log_lines.strays(len(strays))
            self._expects_more = True
            self._wake()

    def _give_everything_back(self) -> None:
        with self.together():
            bindings.drop_subscriber(self._alias, self._presence.name)
            queues = self._claims.release_all()
            if queues:
                self._vendor.announce(queues)

    def _begin_anew(self) -> None:
        """Go on under a new name: others took us for dead, and have what we held."""
        log_lines.lease_lost(len(self._holds))
        self._lost_until, self._holds, self._may_hold_more = self._serial, set(), False
        self._unreadable = []
        self._presence.take()
        self._claims = Claims(self._vendor, self.queues, self._presence.name)
        self._bind()
        self._be_woken()

    def _be_woken(self) -> None:
        self._wake()

    def _key(self, tag: str) -> int:
        """Return the row's id in a delivery's tag; 0, which no row has, if it is not ours any more."""
        serial = tag.partition("-")[2]
        return _row_id(tag) if serial.isdecimal() and int(serial) > self._lost_until else 0


def _nobody() -> None:
    """Wake nobody: the source is not open."""


def _row_id(tag: str) -> int:
    """Return the row's id in a delivery's tag (0 for a tag that is not ours)."""
    key = tag.partition("-")[0]
    return int(key) if key.isdecimal() else 0


def _shell(row: Row) -> Delivery:
    """Return the delivery of a row that cannot be read: its place and its body."""
    return Delivery(str(row[0]), row[2], WireMessage({}, {}, bytes(row[7])), starts=row[5])
