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
from djqueue.messaging.tables import revocations
from djqueue.messaging.tables.failures import errors_of
from djqueue.messaging.tables.rows import to_row
from djqueue.messaging.transports.database import claims, delayed
from djqueue.messaging.transports.database.bindings import queues_for
from djqueue.messaging.transports.database.source import DatabaseSource
from djqueue.messaging.transports.database.transactions import DatabaseTransactions
from djqueue.messaging.transports.database.vendors import vendor_of


class DatabaseBroker(Broker):
    """Messages are rows of `djqueue_message` on one database alias."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.alias = alias_of(url)
        self.vendor = vendor_of(self.alias)
        self.transactions = DatabaseTransactions(self.vendor)
        self.capabilities = Capabilities(
            delays=True,
            counts_starts=True,
            keeps_dead_letters=True,
            fences=True,
            transactional_alias=self.alias,
            by_age=True,
            shortest_delay=0.0,
            keeps_unconsumed_delays=True,
            has_one_writer=self.vendor.has_one_writer,
        )
        self._sources: WeakSet[DatabaseSource] = WeakSet()

    def __repr__(self) -> str:
        return f"django://{self.alias}"

    def send_many(self, outgoing: Sequence[Outgoing]) -> None:
        """Insert the messages; they can be received once the transaction that is open, if any, commits."""
        if not outgoing:
            return
        vendor = self.vendor
        with errors_of(self.alias):
            created = claims.moment(vendor.connection)
            rows = [
                to_row(one, queue, created)
                for one in outgoing
                for queue in queues_for(vendor, one.destination)
            ]
            vendor.mend()
            if len(rows) == 1:
                claims.insert(vendor, rows)
            else:
                with transaction.atomic(using=self.alias, savepoint=False):
                    claims.insert(vendor, rows)
            vendor.announce({row[0] for row in rows})

    def source(self, queues: Sequence[str], consumer: str) -> DatabaseSource:
        """Return a source for the worker called `consumer`.

        Raises:
            djqueue.exceptions.ImproperlyConfigured: the database cannot serve a worker.
        """
        if why := self.vendor.why_no_worker():
            raise ImproperlyConfigured(why)
        source = DatabaseSource(self.vendor, queues, consumer)
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
            self.vendor.announce(queues)

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
        return self.vendor.problems()

    def start_board_path(self, consumer: str) -> Path | None:
        """Return the file in which survivors read what the worker had started."""
        return self.vendor.start_board_path(consumer)

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
