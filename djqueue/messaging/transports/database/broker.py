"""The database broker: sending inserts rows, in the caller's transaction if one is open.

A URL `django://alias` comes in. The alias is read here, as written: database aliases may have capitals, and
URL libraries do not keep them. Receivers are woken when the rows are committed.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from weakref import WeakSet

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from djqueue.core.messages import Outgoing, WireMessage
from djqueue.exceptions import ImproperlyConfigured
from djqueue.messaging.contract import Broker, Capabilities, Problem
from djqueue.messaging.transports.database import claims, delayed, liveness, revocations, sqlite
from djqueue.messaging.transports.database.bindings import queues_for
from djqueue.messaging.transports.database.doorbell import announce
from djqueue.messaging.transports.database.failures import errors_of
from djqueue.messaging.transports.database.rows import to_row
from djqueue.messaging.transports.database.source import DatabaseSource


class DatabaseBroker(Broker):
    """Messages are rows of `djqueue_message` on one database alias."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.alias = alias_of(url)
        self.capabilities = Capabilities(
            delays=True,
            counts_starts=True,
            keeps_dead_letters=True,
            fences=True,
            transactional_alias=self.alias,
        )
        self._directories: dict[str, Path | None] = {}  # by the database's name, which tests change
        self._sources: WeakSet[DatabaseSource] = WeakSet()

    def __repr__(self) -> str:
        return f"django://{self.alias}"

    def send_many(self, outgoing: Sequence[Outgoing]) -> None:
        """Insert the messages; they can be received once the transaction that is open, if any, commits."""
        if not outgoing:
            return
        connection = connections[self.alias]
        with errors_of(self.alias):
            directory = self.directory()
            created = claims.moment(connection)
            rows = [
                to_row(one, queue, created)
                for one in outgoing
                for queue in queues_for(self.alias, directory, one.destination)
            ]
            if len(rows) == 1:
                claims.insert(connection, rows)
            else:
                with transaction.atomic(using=self.alias, savepoint=False):
                    claims.insert(connection, rows)
            announce(connection, directory, {row[0] for row in rows})

    def source(self, queues: Sequence[str], consumer: str) -> DatabaseSource:
        """Return a source for the worker called `consumer`.

        Raises:
            djqueue.exceptions.ImproperlyConfigured: the database cannot serve a worker.
        """
        directory = self.directory()
        if directory is None:
            raise ImproperlyConfigured(self._why_no_worker())
        source = DatabaseSource(self.alias, queues, consumer, directory)
        self._sources.add(source)
        return source

    def size(self, queue: str) -> int:
        """Return how many messages wait in `queue`, those not yet due included."""
        with errors_of(self.alias):
            return claims.size(connections[self.alias], queue)

    def purge(self, queue: str) -> int:
        """Delete what waits in `queue`, and return how many messages that were."""
        with errors_of(self.alias):
            return claims.purge(connections[self.alias], queue)

    def remember_revoked(self, task_ids: Sequence[str]) -> None:
        """Write the revocations; in the transaction that is open, if any."""
        with errors_of(self.alias):
            queues = revocations.remember(self.alias, task_ids)
            announce(connections[self.alias], self.directory(), queues)

    def revoked_since(self, moment: float) -> list[tuple[str, float]]:
        """Return the tasks revoked after `moment`, and when."""
        with errors_of(self.alias):
            return revocations.since(self.alias, moment)

    def delayed(self, queues: Sequence[str], most: int) -> list[tuple[float, str, WireMessage]]:
        """Return messages that are not due yet, soonest first."""
        with errors_of(self.alias):
            return delayed.not_due(self.alias, queues, most)

    def leave_thread(self) -> None:
        """Close this thread's connection."""
        connections[self.alias].close()

    def problems(self) -> list[Problem]:
        """Return what a system check should say of the database."""
        return sqlite.problems(self.alias)

    def start_board_path(self, consumer: str) -> Path | None:
        """Return the file that tells whether the worker lives, and what it had started."""
        directory = self.directory()
        return None if directory is None else liveness.path_of(directory, consumer)

    def directory(self) -> Path | None:
        """Return the directory beside the database file where the living have their files and doorbells."""
        connection: Any = connections[self.alias]
        name = str(connection.settings_dict["NAME"])
        if name not in self._directories:
            file = sqlite.file_of(connection)
            self._directories[name] = None if file is None else file.with_name(f"{file.name}-djqueue")
        return self._directories[name]

    def after_fork(self) -> None:
        """Forget the parent's connection and locks without touching them."""
        for source in self._sources:
            source.forget()
        connection: Any = connections[self.alias]
        if connection.connection is not None:
            # Kept, so that nothing closes it: the parent goes on using it.
            connection.inherited = connection.connection
            connection.connection = None
            connection.in_atomic_block = connection.needs_rollback = connection.closed_in_transaction = False
            connection.atomic_blocks, connection.savepoint_ids, connection.run_on_commit = [], [], []

    def _why_no_worker(self) -> str:
        connection: Any = connections[self.alias]
        if connection.vendor == "sqlite":
            return (
                f"The broker is {self!r}, a database in memory: a worker is another process and cannot see"
                f" it. Give DATABASES[{self.alias!r}]['NAME'] a file name."
            )
        return (
            f"The broker is {self!r}, a {connection.display_name} database; so far workers receive from"
            " SQLite files only. Set BROKER_URL to the alias of an SQLite database."
        )


def alias_of(url: str) -> str:
    """Return the database alias that the URL names.

    Raises:
        djqueue.exceptions.ImproperlyConfigured: DATABASES has no such alias.
    """
    alias = unquote(url.partition("://")[2].partition("?")[0].strip("/")) or DEFAULT_DB_ALIAS
    if alias not in connections:
        near = get_close_matches(alias, connections, cutoff=0.5) or sorted(connections)
        raise ImproperlyConfigured(
            f"BROKER_URL is {url!r}, but DATABASES has no alias {alias!r}. Did you mean "
            f"{' or '.join(f'django://{one}' for one in near)}?"
        )
    return alias
