"""What is special about SQLite files: where they are, their journal, their locks, and what to check.

One writer at a time is SQLite's rule, so a worker's transactions begin IMMEDIATE (they wait for the lock
instead of failing half-way), and the file is in WAL mode, so that readers never wait.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from logging import ERROR, INFO
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from django.db import OperationalError as DatabaseBusy
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from djqueue.conf import settings
from djqueue.exceptions import ImproperlyConfigured
from djqueue.messaging import liveness, log_lines
from djqueue.messaging.contract import Problem
from djqueue.messaging.transports.database import doorbell
from djqueue.messaging.transports.database.contract import MESSAGES, Vendor, one_choice
from djqueue.messaging.transports.database.lockfiles import FilePresence

T = TypeVar("T")

#: UPDATE … RETURNING came with this version.
OLDEST_VERSION = (3, 35, 0)
#: how long a starting or leaving worker waits for the lock, seconds
LONGEST_WAIT = 30.0
#: PRAGMA synchronous: no waiting for the disk at each commit
_NORMAL = 1


class SQLite(Vendor):
    """A file, and a directory beside it where the living have theirs."""

    returning = True
    has_one_writer = True

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._directories: dict[str, Path | None] = {}  # by the database's name, which tests change

    def claim_sql(self, queues: int, columns: Sequence[str]) -> str:
        """Return an UPDATE … RETURNING."""
        return (
            f"UPDATE {MESSAGES} SET claimed_by = %(claimer)s, claimed_at = %(moment)s"
            f" WHERE id IN ({one_choice(queues)}) RETURNING {', '.join(columns)}"
        )

    def prepare(self) -> None:
        """Put the file into WAL mode."""
        when_free(lambda: use_wal(self.connection))

    def begin(self) -> None:
        """Let the transaction take the write lock at once."""
        begin_immediately(self.connection)

    def claiming(self) -> AbstractContextManager[None]:
        """Do not wait for the disk."""
        self.begin()
        return unsynced(self.connection)

    def patiently(self, action: Callable[[], T]) -> T:
        """Wait for the write lock."""
        return when_free(action)

    def why_no_worker(self) -> str:
        """Return that nobody else sees a database in memory, if it is one."""
        if self.directory() is not None:
            return ""
        return (
            f"The broker is django://{self.alias}, a database in memory: a worker is another process and"
            f" cannot see it. Give DATABASES[{self.alias!r}]['NAME'] a file name."
        )

    def presence(self, claimer: str) -> FilePresence:
        """Return a lock and a doorbell in the directory."""
        directory = self.directory()
        if directory is None:
            raise ImproperlyConfigured(self.why_no_worker())
        return FilePresence(directory, claimer)

    def is_alive(self, claimer: str) -> bool:
        """Return whether its lock is held; with a database in memory there is nobody else to die."""
        directory = self.directory()
        return directory is None or liveness.is_alive(directory, claimer)

    def start_board_path(self, claimer: str) -> Path | None:
        """Return the lock file: it is the start board, too."""
        directory = self.directory()
        return None if directory is None else liveness.path_of(directory, claimer)

    def announce(self, queues: Iterable[str]) -> None:
        """Ring at the doorbells in the directory."""
        doorbell.announce(self.connection, self.directory(), queues)

    def problems(self) -> list[Problem]:
        """Return what a system check should say of the file."""
        return problems(self.alias)

    def directory(self) -> Path | None:
        """Return the directory beside the database file; None for a database in memory."""
        name = str(self.connection.settings_dict["NAME"])
        if name not in self._directories:
            file = file_of(self.connection)
            self._directories[name] = None if file is None else file.with_name(f"{file.name}-djqueue")
        return self._directories[name]


def file_of(connection: Any) -> Path | None:
    """Return the database file, or None when the database is in memory."""
    if connection.is_in_memory_db():
        return None
    name = str(connection.settings_dict["NAME"])
    if name.startswith("file:"):
        name = unquote(urlsplit(name).path)
    return Path(name).resolve()


def begin_immediately(connection: Any) -> None:
    """Make the connection's transactions take the write lock when they begin.

    Django sets this anew whenever it connects, so it is asked for before each transaction.
    """
    connection.ensure_connection()
    connection.transaction_mode = "IMMEDIATE"


def use_wal(connection: BaseDatabaseWrapper) -> None:
    """Put the file into WAL mode, unless WORKER_SQLITE_WAL is off; say so when that changed it."""
    if not settings.WORKER_SQLITE_WAL:
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        if cursor.fetchone()[0] == "wal":
            return
        cursor.execute("PRAGMA journal_mode=WAL")
        mode = cursor.fetchone()[0]
    if mode == "wal":
        log_lines.journal_mode(connection.alias, mode)
    else:
        log_lines.no_wal(connection.alias, mode)


@contextmanager
def unsynced(connection: Any) -> Iterator[None]:
    """Do not wait for the disk inside the block: for claims, which a power cut may well undo.

    That halves the waiting for the disk. Whatever is settled later is synced with all that went before.
    Only in WAL mode, where nothing can be damaged by it.
    """
    database = connection.connection
    if connection.in_atomic_block or database is None:
        yield
        return
    level = database.execute("PRAGMA synchronous").fetchone()[0]
    if level <= _NORMAL or database.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        yield
        return
    database.execute(f"PRAGMA synchronous={_NORMAL}")
    try:
        yield
    finally:
        database.execute(f"PRAGMA synchronous={level}")


def when_free(action: Callable[[], T]) -> T:
    """Return what `action` returns; while the database is locked, try again for up to 30 s."""
    deadline = time.monotonic() + LONGEST_WAIT
    while True:
        try:
            return action()
        except DatabaseBusy as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.01, 0.25))


def is_busy(error: DatabaseBusy) -> bool:
    """Return whether the error says that somebody else holds the lock."""
    return "locked" in str(error) or "busy" in str(error)


def problems(alias: str) -> list[Problem]:
    """Return what a system check should say of the database, without touching it."""
    connection: Any = connections[alias]
    if str(connection.settings_dict["NAME"]).startswith(f"file:memorydb_{alias}"):
        return []  # Django's test runner has put it there, and runs the checks
    if connection.is_in_memory_db():
        return [
            Problem(
                "sqlite_memory",
                ERROR,
                f"The broker is the database {alias!r}, which is in memory: no worker can see its messages.",
                f"Give DATABASES[{alias!r}]['NAME'] a file name.",
            )
        ]
    found = []
    version = connection.Database.sqlite_version_info
    if version < OLDEST_VERSION:
        found.append(
            Problem(
                "sqlite_version",
                ERROR,
                f"SQLite is {'.'.join(map(str, version))}; the database broker needs 3.35 or newer.",
                "Use a Python that was built with a newer SQLite.",
            )
        )
    mode = str(connection.settings_dict["OPTIONS"].get("transaction_mode") or "DEFERRED").upper()
    if mode == "DEFERRED":
        found.append(
            Problem(
                "sqlite_deferred",
                INFO,
                f"Transactions on the SQLite database {alias!r} begin DEFERRED: one that reads first and"
                " writes later fails at once with 'database is locked' when somebody else wrote in between.",
                f"Set DATABASES[{alias!r}]['OPTIONS']['transaction_mode'] = 'IMMEDIATE'.",
            )
        )
    return found
