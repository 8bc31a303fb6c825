"""What PostgreSQL, MySQL and MariaDB have in common, and the questions that each answers in its own words.

The rooms of the living ask them: what time it is, who holds a lock, who can be woken. Statements that fell to
a deadlock are tried again here.
"""

from __future__ import annotations

import random
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeVar

from django.db import DatabaseError

from djqueue.messaging.transports.database.contract import Vendor
from djqueue.messaging.transports.database.sessions import Ear

T = TypeVar("T")

#: how often in all a statement is tried that falls to a deadlock or a clash
TRIES = 3


class ServerVendor(Vendor):
    """A database server."""

    skip_locked = " FOR UPDATE SKIP LOCKED"
    #: SQL: the server's clock, seconds since the epoch
    clock: ClassVar[str]
    #: SQL about a claimer's row: whether nobody holds its lock
    unlocked: ClassVar[str]
    #: a lock has to be seen free twice, so far apart, seconds: its holder may be connecting anew
    twice: ClassVar[float] = 0.3

    def patiently(self, action: Callable[[], T]) -> T:
        """Try again at once when the server ended the statement in favour of another."""
        for left in reversed(range(TRIES)):
            try:
                return action()
            except DatabaseError as error:
                if not left or not self.gave_way(error) or self.connection.in_atomic_block:
                    raise
                time.sleep(random.uniform(0.005, 0.05))
        raise AssertionError("unreachable")

    def announce(self, queues: Iterable[str]) -> None:
        """Nobody can be woken: receivers look by themselves."""

    @abstractmethod
    def gave_way(self, error: DatabaseError) -> bool:
        """Return whether the server ended the statement only because another was in its way."""

    # -- the session that shows that a claimer lives ------------------------------------------------------

    @abstractmethod
    def session(self) -> Any:
        """Return a connection to the database that is nobody else's; whoever asks closes it."""

    @abstractmethod
    def is_pooled(self, cursor: Any) -> bool:
        """Return whether something between us and the server lends us sessions by turns."""

    @abstractmethod
    def hold(self, cursor: Any, key: int) -> bool:
        """Take the lock of the claimer whose row has that key, for as long as the session lives."""

    @abstractmethod
    def uptime(self, cursor: Any) -> float:
        """Return for how many seconds the server has been up."""

    def listen(self, cursor: Any) -> Ear | None:
        """Ask to be woken; return what hears, None if that cannot be."""
        return None

    def heard(self, ear: Ear) -> list[frozenset[str]]:
        """Return the notices that came in, each as the queues it names; none if it is for everyone."""
        return []
