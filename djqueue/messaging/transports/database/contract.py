"""The seam to databases: what each kind does in its own way, and the living as others see them.

The broker, its sources and kombu's transport speak to a `Vendor`; `vendors.py` picks it by alias. A
`Presence` is one claimer among the living, `Remains` is what a dead one left. One file for each vendor holds
the answers.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from django.db import connections

from djqueue.messaging.contract import Problem, Watch
from djqueue.models import Message

T = TypeVar("T")

MESSAGES = Message._meta.db_table
#: what may be taken from one queue
READY = f"SELECT id, priority FROM {MESSAGES} WHERE claimed_by = '' AND queue = %s AND due IS NULL"


class Remains(ABC):
    """What a claimer that is gone left behind."""

    claimer: str

    @abstractmethod
    def started_tags(self) -> list[str]:
        """Return the tags of the deliveries that were being run when the claimer was last heard of."""

    @property
    def may_be_unborn(self) -> bool:
        """Whether the claimer may be just starting; then only what it holds is taken over."""
        return False

    def confirm(self) -> bool:
        """Return whether the claimer is gone, once and for all; asked in the transaction that takes over."""
        return True

    @abstractmethod
    def clear(self) -> None:
        """Remove every trace of the claimer."""


class Presence(ABC):
    """One claimer among the living. `name` is what it claims under now."""

    name: str

    @property
    def may_claim(self) -> bool:
        """Whether the others certainly see that the claimer lives."""
        return True

    @property
    def is_lost(self) -> bool:
        """Whether others have declared the claimer dead; what it held is theirs."""
        return False

    @property
    @abstractmethod
    def hears(self) -> bool:
        """Whether those who send can wake the claimer; if not, it has to look by itself."""

    @property
    def is_pooled(self) -> bool:
        """Whether sessions are lent by turns, so that there is neither a lock nor a wake-up."""
        return False

    @property
    def suspects(self) -> bool:
        """Whether somebody may have died, so that it is worth to look again soon."""
        return False

    @abstractmethod
    def take(self) -> None:
        """Be among the living; nothing happens to a claimer that is. A lost one takes a new name.

        Raises:
            djqueue.exceptions.OperationalError: it cannot be, for instance because the name is taken.
        """

    @abstractmethod
    def listen(self, queues: Callable[[], Iterable[str]], watch: Watch, wake: Callable[[], None]) -> None:
        """Call `wake` when messages arrive in one of the queues; files to be watched are given to `watch`."""

    @abstractmethod
    def wait(self, queues: Iterable[str], seconds: float) -> None:
        """Sleep until somebody sends to one of `queues`, at most so long."""

    @abstractmethod
    def remains(self) -> Iterator[Remains]:
        """Yield what the dead left."""

    @abstractmethod
    def known(self) -> set[str]:
        """Return the names of all claimers of which there is a trace, dead or alive."""

    def now(self) -> float:
        """Return the time by the broker's clock, in seconds since the epoch."""
        return time.time()

    @abstractmethod
    def leave(self) -> None:
        """Be gone, and leave no trace. May be called twice."""

    @abstractmethod
    def forget(self) -> None:
        """Let go of this process's copies of what is open; the parent goes on with its own."""


class Vendor(ABC):
    """One kind of database, on one alias."""

    #: UPDATE and DELETE return the rows they changed
    returning: ClassVar[bool] = False
    #: while somebody's transaction is open, nobody else can write
    has_one_writer: ClassVar[bool] = False
    #: a look that takes no lock comes before each claim
    looks_first: ClassVar[bool] = True
    #: what a SELECT ends with, so that it locks its rows and passes over those that others have locked
    skip_locked: ClassVar[str] = ""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    @property
    def connection(self) -> Any:
        """This thread's connection."""
        return connections[self.alias]

    def prepare(self) -> None:
        """Make the database ready for a worker."""

    # -- SQL -----------------------------------------------------------------------------------------

    @abstractmethod
    def claim_sql(self, queues: int, columns: Sequence[str]) -> str:
        """Return the statement that claims from so many queues and returns `columns` (where it can).

        Its parameters are named: `claimer`, `moment`, `room`, and `queue0`, `queue1`…
        """

    def insert_many(self, cursor: Any, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Insert messages, in order, inside a transaction."""
        cursor.executemany(insertion(columns), rows)

    def begin(self) -> None:
        """Make the connection ready for a transaction of a worker's."""
        self.mend()

    def claiming(self) -> AbstractContextManager[None]:
        """Return a context for a claim, which a power cut may undo."""
        return nullcontext()

    def patiently(self, action: Callable[[], T]) -> T:
        """Return what `action` returns; try again when others were in the way. It must begin anew."""
        return action()

    def mend(self) -> None:
        """Close a connection that is broken, so that the next statement opens another."""
        connection = self.connection
        if connection.errors_occurred and not connection.in_atomic_block:
            if connection.connection is not None and connection.is_usable():
                connection.errors_occurred = False
            else:
                connection.close()

    # -- the living ----------------------------------------------------------------------------------

    def why_no_worker(self) -> str:
        """Return why no worker can receive from this database; nothing when one can."""
        return ""

    @abstractmethod
    def presence(self, claimer: str) -> Presence:
        """Return the place of that claimer among the living; it is not taken yet."""

    @abstractmethod
    def is_alive(self, claimer: str) -> bool:
        """Return whether the claimer lives, as far as can be said at once."""

    @abstractmethod
    def start_board_path(self, claimer: str) -> Path | None:
        """Return the file in which survivors on this machine read what that worker had started."""

    @abstractmethod
    def announce(self, queues: Iterable[str]) -> None:
        """Wake the receivers of `queues` when what was written on the connection is committed."""

    def problems(self) -> list[Problem]:
        """Return what a system check should say of the database, without touching it."""
        return []


def insertion(columns: Sequence[str]) -> str:
    """Return the INSERT of one message."""
    return f"INSERT INTO {MESSAGES} ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})"


def one_choice(queues: int, lock: str = "") -> str:
    """Return the SELECT of the ids to claim: one range of the index for each queue, merged.

    Nothing that is ready has a `due`, but only if it is named PostgreSQL reads the index in order; else it
    sorts all that waits, for each claim. (MariaDB, which does not ask this way, sorts only if it is named.)
    """
    arms = [
        f"{READY.replace('%s', f'%(queue{n})s')} ORDER BY due, priority, id LIMIT %(room)s{lock}"
        for n in range(queues)
    ]
    if queues == 1:
        return f"SELECT id FROM ({arms[0]}) AS chosen"
    merged = " UNION ALL ".join(f"SELECT id, priority FROM ({arm}) AS arm{n}" for n, arm in enumerate(arms))
    return f"SELECT id FROM ({merged}) AS arms ORDER BY priority, id LIMIT %(room)s"
