"""Receiving from tables for one worker: claim in batches, settle many at once, look after the dead.

The life of a source: it locks its file and listens at its doorbell; it claims what is ready and settles what
was claimed; about once a second it looks for messages that became due, for those that no ring announced, and
for what dead workers held; at the end it gives back what it still holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from django.db import DatabaseError, connections, transaction

from djqueue.core.messages import WireMessage
from djqueue.messaging import log_lines
from djqueue.messaging.contract import Source, Watch
from djqueue.messaging.delivery import Delivery, How, Settlement
from djqueue.messaging.transports.database import bindings, liveness, sqlite
from djqueue.messaging.transports.database.claims import CHUNK, Claims, Row, owners
from djqueue.messaging.transports.database.doorbell import Doorbell, announce
from djqueue.messaging.transports.database.failures import errors_of
from djqueue.messaging.transports.database.rows import Unreadable, to_delivery

#: how often the source looks round without being woken, seconds
ROUND = 1.0
#: the same where no doorbell can be hung up
ROUND_WITHOUT_BELL = 0.5


class DatabaseSource(Source):
    """One worker's consumer on one database alias. `directory` is where the living have their files."""

    def __init__(self, alias: str, queues: Sequence[str], consumer: str, directory: Path) -> None:
        self.queues = tuple(dict.fromkeys(queues))
        self._alias = alias
        self._consumer = consumer
        self._directory = directory
        self._claims = Claims(alias, self.queues, consumer)
        self._lifeline = liveness.LifeLine(liveness.path_of(directory, consumer))
        self._doorbell = Doorbell(directory, liveness.file_name(consumer))
        self._wake: Callable[[], None] = _nobody
        self._is_open = False
        self._expects_more = True  # the last batch was full, so there is probably more
        self._serial = 0
        self._unreadable: list[tuple[Row, str]] = []  # claimed, and still to be buried
        self._missing: set[str] = set()  # claimers without a file at the last round
        self._next_round = 0.0

    def open(self, watch: Watch, wake: Callable[[], None]) -> None:
        """Lock the own file, hang up the doorbell, and take over what the dead left.

        Raises:
            djqueue.exceptions.OperationalError: the database cannot be used, or the name is taken.
        """
        self._wake = wake
        with errors_of(self._alias):
            sqlite.when_free(lambda: sqlite.use_wal(self._connection()))
            self._lifeline.take()
            self._is_open = True
            try:
                self._doorbell.open()
                watch(self._doorbell, self._answer_the_door)
            except OSError as error:
                log_lines.no_doorbell(str(error))
            sqlite.when_free(self._look_after_the_dead)
        wake()

    def receive(self, room: int) -> list[Delivery]:
        """Claim up to `room` messages; what cannot be read is buried."""
        # Asking first takes no lock: workers woken for one message do not queue up for the writer's.
        if room <= 0 or not (self._expects_more or self._claims.has_ready()):
            return []
        connection = self._connection()
        sqlite.begin_immediately(connection)
        with sqlite.unsynced(connection):
            rows = self._claims.take(room)
        self._expects_more = len(rows) >= room
        deliveries = []
        for row in rows:
            self._serial += 1
            try:
                deliveries.append(to_delivery(row, f"{row[0]}-{self._serial}"))
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
        claims = self._claims
        pairs = [(_key(one.delivery.tag), one) for one in settlements]
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
                self._announce({one.delivery.queue for _, one in back})
        return [one.delivery for key, one in pairs if key not in ours]

    def tend(self, now: float) -> float:
        """Go the round when it is time; let what is due be taken; return when to come again."""
        if now >= self._next_round:
            self._next_round = now + (ROUND if self._doorbell.fileno() >= 0 else ROUND_WITHOUT_BELL)
            self._lifeline.take()
            self._bury_unreadable()
            self._look_after_the_dead()
            if self._claims.has_ready():
                self._wake()
        return max(min(self._next_round - now, self._seconds_to_due()), 0.0)

    def together(self) -> AbstractContextManager[Any]:
        """Return a transaction on the alias; blocks nest, and commit as one."""
        sqlite.begin_immediately(self._connection())
        return transaction.atomic(using=self._alias, savepoint=False)

    def close(self) -> None:
        """Give back everything, uncounted, and leave."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            with errors_of(self._alias):
                sqlite.when_free(self._give_everything_back)
        finally:
            self._doorbell.close()
            self._lifeline.leave()

    def forget(self) -> None:
        """Close this process's copies of what is open; the parent goes on with its own."""
        self._is_open = False
        self._doorbell.forget()
        self._lifeline.forget()

    # -- the round -----------------------------------------------------------------------------------

    def _look_after_the_dead(self) -> None:
        for remains in liveness.remains(self._directory, self._lifeline.path):
            begun = {_key(tag) for tag in remains.started_tags()}
            had_some = self._take_over(remains.claimer, begun)
            # A file without claims and locks may belong to a worker that is just starting.
            if had_some or not remains.may_be_unborn:
                Doorbell(self._directory, liveness.file_name(remains.claimer)).close()
                remains.clear()
        self._look_after_the_missing()

    def _look_after_the_missing(self) -> None:
        """Take over from claimers whose file is gone, when it was gone a round ago, too."""
        named = (owners(self._connection()) | bindings.subscribers(self._alias)) - {self._consumer}
        missing = named - liveness.claimers(self._directory) if named else set()
        for claimer in missing & self._missing:
            self._take_over(claimer, set())
        self._missing = missing

    def _take_over(self, claimer: str, begun: set[int]) -> bool:
        """Give back what a claimer that is gone held; return whether it held or subscribed to anything."""
        if not self._claims.holds(claimer):
            return bindings.drop_subscriber(self._alias, claimer)
        with self.together():
            bindings.drop_subscriber(self._alias, claimer)
            held = self._claims.give_back_of(claimer, begun)
            self._announce({queue for _, queue in held})
        log_lines.recovered(len(held), sum(key in begun for key, _ in held), claimer)
        return True

    def _seconds_to_due(self) -> float:
        """Let due messages be taken, and return in how many seconds the next is due."""
        due = self._claims.next_due()
        if due is None:
            return float("inf")
        left = due - time.time()
        if left > 0:
            return left
        made = self._claims.make_ready()
        if made:
            self._announce(self.queues)
            self._wake()
        return 0.0 if made >= CHUNK else self._seconds_to_next_due()

    def _seconds_to_next_due(self) -> float:
        due = self._claims.next_due()
        return float("inf") if due is None else due - time.time()

    # -- the rest ------------------------------------------------------------------------------------

    def _bury_unreadable(self) -> None:
        if not self._unreadable:
            return
        with self.together():
            for row, detail in self._unreadable:
                self._claims.bury(row[0], "undecodable", detail)
        buried, self._unreadable = self._unreadable, []
        if self.on_buried is not None:  # the worker says so in the log
            self.on_buried([_shell(row) for row, _ in buried], "undecodable")
            return
        for row, detail in buried:
            log_lines.unreadable(row[2], str(row[0]), detail)

    def _give_everything_back(self) -> None:
        with self.together():
            queues = self._claims.release_all()
            if queues:
                self._announce(queues)

    def _answer_the_door(self) -> None:
        if self._doorbell.rang_for(self.queues):
            self._wake()

    def _announce(self, queues: Iterable[str]) -> None:
        announce(self._connection(), self._directory, queues)

    def _connection(self) -> Any:
        return connections[self._alias]


def _nobody() -> None:
    """Wake nobody: the source is not open."""


def _key(tag: str) -> int:
    """Return the row's id in a delivery's tag (0 for a tag that is not ours)."""
    key = tag.partition("-")[0]
    return int(key) if key.isdecimal() else 0


def _shell(row: Row) -> Delivery:
    """Return the delivery of a row that cannot be read: its place and its body."""
    return Delivery(str(row[0]), row[2], WireMessage({}, {}, bytes(row[7])), starts=row[5])
