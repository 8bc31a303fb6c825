"""The living on a database server: each has a row that is its lease, and a session that holds its lock.

Who finds a lock free that a living claimer would hold, or a lease that has ended, takes over. Whoever was
taken for dead and is not, finds its row gone and goes on under a new name: what it held belongs to others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from logging import ERROR
from pathlib import Path
from threading import Event
from typing import Any

from django.db import DatabaseError, IntegrityError, InterfaceError

from djqueue.conf import settings
from djqueue.exceptions import ImproperlyConfigured, OperationalError
from djqueue.messaging import boards, log_lines, machines
from djqueue.messaging.contract import Problem, Watch
from djqueue.messaging.startboard import read_started_tags
from djqueue.messaging.transports.database import roll
from djqueue.messaging.transports.database.contract import Presence, Remains
from djqueue.messaging.transports.database.keeper import Keeper
from djqueue.messaging.transports.database.roll import Seen
from djqueue.messaging.transports.database.server import ServerVendor
from djqueue.messaging.transports.database.sessions import direct_alias, own_session

#: how long a lease lasts unless BROKER_TRANSPORT_OPTIONS["lease"] says otherwise, seconds
LEASE = 15.0
#: the lease counts as lost so long before it is, seconds
MARGIN = 1.0
#: sessions have so long to come back after a restart of the server, or after ours was ended, seconds
SETTLING = 5.0


class LeasedVendor(ServerVendor):
    """A server on which claimers hold leases."""

    def presence(self, claimer: str) -> LeasePresence:
        """Return a lease.

        Raises:
            djqueue.exceptions.ImproperlyConfigured: there is no alias for sessions of our own.
        """
        self._direct_alias()
        return LeasePresence(self, claimer)

    def session(self) -> Any:
        """Return a connection of its own, past any pool; see `sessions`."""
        return own_session(self._direct_alias())

    def is_alive(self, claimer: str) -> bool:
        """Return whether the claimer's lease is good."""
        with self.connection.cursor() as cursor:
            return roll.is_current(self, cursor, claimer)

    def start_board_path(self, claimer: str) -> Path | None:
        """Return where workers of this user on this machine find the board."""
        return boards.path_of(claimer)

    def problems(self) -> list[Problem]:
        """Return what switching autocommit off means, and that the alias past a pooler is unknown."""
        found = []
        if not self.connection.settings_dict.get("AUTOCOMMIT", True):
            found.append(
                Problem(
                    "database_autocommit",
                    ERROR,
                    f"AUTOCOMMIT is off for the database {self.alias!r}: workers would never commit.",
                    f"Remove DATABASES[{self.alias!r}]['AUTOCOMMIT'].",
                )
            )
        try:
            self._direct_alias()
        except ImproperlyConfigured as error:
            remedy = "Give DATABASES an alias of that name, for the same database without the pooler."
            found.append(Problem("database_direct_alias", ERROR, str(error), remedy))
        return found

    def _direct_alias(self) -> str:
        return direct_alias(self.alias, settings.BROKER_TRANSPORT_OPTIONS, "BROKER_TRANSPORT_OPTIONS")


class LeaseRemains(Remains):
    """The row of a claimer that is gone, and its start board if it was on this machine."""

    def __init__(self, vendor: ServerVendor, seen: Seen) -> None:
        self.claimer = seen.name
        self._vendor = vendor
        self._seen = seen
        self._board = _board_of(seen.name) if seen.machine == machines.this_machine() else None

    def started_tags(self) -> list[str]:
        """Read them from the board if it is here, else from the row, where they may be half a second old."""
        try:
            if self._board is not None:
                return read_started_tags(self._board)
        except OSError:
            pass
        return self._seen.started.split("\n")

    def confirm(self) -> bool:
        """Remove the row; not if the claimer came back meanwhile, or somebody else was faster."""
        with self._vendor.connection.cursor() as cursor:
            return roll.strike(self._vendor, cursor, self._seen)

    def clear(self) -> None:
        """Remove the row, if it is still there, and the board."""
        self.confirm()
        if self._board is not None:
            self._board.unlink(missing_ok=True)


class LeasePresence(Presence):
    """A claimer with a lease. Used from one thread; the keeper has its own."""

    def __init__(self, vendor: ServerVendor, claimer: str) -> None:
        self.name = claimer
        self._vendor = vendor
        self._claimer = claimer
        self._length = float((settings.BROKER_TRANSPORT_OPTIONS or {}).get("lease", LEASE))
        self._times_lost = 0
        self._key = 0
        self._keeper: Keeper | None = None
        self._suspects: dict[tuple[int, str], float] = {}  # key and session → since when, monotonic seconds
        self._queues: Callable[[], Iterable[str]] = tuple
        self._wake: Callable[[], None] | None = None
        self._rung = Event()

    @property
    def may_claim(self) -> bool:
        """Whether the lease was renewed so lately that it cannot have ended."""
        keeper = self._keeper
        margin = min(MARGIN, self._length / 5)
        return (
            keeper is not None
            and not keeper.is_lost
            and time.monotonic() < keeper.renewed + self._length - margin
        )

    @property
    def is_lost(self) -> bool:
        """Whether the row is gone."""
        return self._keeper is not None and self._keeper.is_lost

    @property
    def hears(self) -> bool:
        """Whether the server passes wake-ups on."""
        return self._keeper is not None and self._keeper.hears

    @property
    def is_pooled(self) -> bool:
        """Whether the keeper's session is lent by a pooler."""
        return self._keeper is not None and self._keeper.is_pooled

    @property
    def suspects(self) -> bool:
        """Whether somebody's lock was found free once."""
        return bool(self._suspects)

    def take(self) -> None:
        """Enter the roll, and have the lease kept."""
        if self._keeper is not None and not self._keeper.is_lost:
            return
        if self._keeper is not None:
            self._keeper.stop()
            self._keeper = None
            self._times_lost += 1
            self.name = f"{self._claimer}~{self._times_lost}"
        began = time.monotonic()
        try:
            with self._vendor.connection.cursor() as cursor:
                self._key, now = roll.enter(
                    self._vendor, cursor, self.name, machines.this_machine(), self._length
                )
        except IntegrityError as error:
            raise OperationalError(f"Another process uses this worker's name, {self.name}.") from error
        board = _board_of(self.name)
        self._keeper = Keeper(self._vendor, self._key, self._length, board, began, now)
        if self._wake is not None:
            self._keeper.listen(self._queues, self._wake)
        self._keeper.start()

    def listen(self, queues: Callable[[], Iterable[str]], watch: Watch, wake: Callable[[], None]) -> None:
        """Let the keeper call `wake`, from its thread."""
        self._queues, self._wake = queues, wake
        if self._keeper is not None:
            self._keeper.listen(queues, wake)

    def wait(self, queues: Iterable[str], seconds: float) -> None:
        """Sleep until the server passes a wake-up on."""
        wanted = tuple(queues)
        self.listen(lambda: wanted, lambda *_: None, self._rung.set)
        self._rung.wait(seconds)
        self._rung.clear()

    def remains(self) -> Iterator[Remains]:
        """Yield those whose lock is free at two looks, and those whose lease has ended."""
        with self._vendor.connection.cursor() as cursor:
            found = roll.everyone(self._vendor, cursor)
            if any(one.key == self._key and one.is_unlocked for one in found):
                return  # our own session is gone as well: whatever ended it may have ended all
            suspicious = [one for one in found if one.key != self._key and (one.is_unlocked or one.ended > 0)]
            uptime = self._vendor.uptime(cursor) if suspicious else 0.0
        now = time.monotonic()
        have_settled = min(uptime, self._unbroken_for(now)) >= min(SETTLING, self._length)
        self._suspects = {
            (one.key, one.session): self._suspects.get((one.key, one.session), now)
            for one in suspicious
            if one.is_unlocked and one.ended <= 0
        }
        for one in suspicious:
            seen_at = self._suspects.get((one.key, one.session), now)
            let_go = one.is_unlocked and now - seen_at >= self._vendor.twice and have_settled
            ran_out = one.ended > 0 and uptime >= self._length and self._is_calm(now)
            if let_go or ran_out:
                self._suspects.pop((one.key, one.session), None)
                yield LeaseRemains(self._vendor, one)

    def known(self) -> set[str]:
        """Return who is on the roll."""
        with self._vendor.connection.cursor() as cursor:
            return roll.names(cursor)

    def now(self) -> float:
        """Return the server's time, from the last renewal on."""
        if self._keeper is None:
            return time.time()
        showed, seen_at = self._keeper.clock
        return showed + time.monotonic() - seen_at

    def leave(self) -> None:
        """Leave the roll; a row that cannot be removed now is removed by others when the lease ends."""
        if self._keeper is None:
            return
        self._keeper.stop()
        self._keeper = None
        try:
            with self._vendor.connection.cursor() as cursor:
                roll.leave(cursor, self._key)
        except (DatabaseError, InterfaceError) as error:
            log_lines.not_left(str(error))
        board = _board_of(self.name)
        if board is not None:
            board.unlink(missing_ok=True)

    def forget(self) -> None:
        """The keeper's thread is not in this process; what it had open stays with the parent."""
        self._forgotten, self._keeper = self._keeper, None

    def _unbroken_for(self, now: float) -> float:
        """Return for how long our own session has not been ended, seconds."""
        return now - self._keeper.broken if self._keeper is not None else 0.0

    def _is_calm(self, now: float) -> bool:
        """Whether the server has been well for so long that every living claimer has had time to renew."""
        keeper = self._keeper
        return keeper is not None and not keeper.is_lost and now - keeper.calm_since >= self._length / 2


def _board_of(name: str) -> Path | None:
    """Return the start board of a worker of this machine, whatever name it goes on under."""
    return boards.path_of(name.partition("~")[0])
