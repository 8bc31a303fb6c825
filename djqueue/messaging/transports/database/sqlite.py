"""What is special about SQLite files: where they are, their journal, their locks, and what to check.

One writer at a time is SQLite's rule, so a worker's transactions begin IMMEDIATE (they wait for the lock
instead of failing half-way), and the file is in WAL mode, so that readers never wait.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import ERROR, INFO
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from django.db import OperationalError as DatabaseBusy
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from djqueue.conf import settings
from djqueue.messaging import log_lines
from djqueue.messaging.contract import Problem

T = TypeVar("T")

#: UPDATE … RETURNING came with this version.
OLDEST_VERSION = (3, 35, 0)
#: how long a starting or leaving worker waits for the lock, seconds
LONGEST_WAIT = 30.0
#: PRAGMA synchronous: no waiting for the disk at each commit
_NORMAL = 1


def file_of(connection: Any) -> Path | None:
    """Return the database file, or None when the database is in memory or on a server."""
    if connection.vendor != "sqlite" or connection.is_in_memory_db():
        return None
    name = str(connection.settings_dict["NAME"])
    if name.startswith("file:"):
        name = unquote(urlsplit(name).path)
    return Path(name).resolve()


def begin_immediately(connection: Any) -> None:
    """Make the connection's transactions take the write lock when they begin.

    Django sets this anew whenever it connects, so it is asked for before each transaction.
    """
    if connection.vendor == "sqlite":
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
    if connection.vendor != "sqlite" or connection.in_atomic_block or database is None:
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
    if connection.vendor != "sqlite":
        return []
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
