"""The result store "django-db": documents as rows of `TaskResult`, in the database the router names.

Workers come in with batches of documents and leave when they are written; callers leave with documents.
Inside a transaction, reading goes over a connection of its own, because the transaction may be looking at
the past.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any, TypeVar

from django.db import Error, InterfaceError, OperationalError, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from djqueue import states
from djqueue.conf import settings
from djqueue.exceptions import BackendGetMetaError, BackendStoreError
from djqueue.result.contract import ResultBackend
from djqueue.result.documents import Document, fence
from djqueue_results.backends import database_waking
from djqueue_results.backends.database_groups import DatabaseGroups
from djqueue_results.backends.database_waking import Listener, Waiter
from djqueue_results.backends.statements import moments, seconds, select, upsert
from djqueue_results.models import TaskResult
from djqueue_results.rows import as_datetime, from_row, stored_id, to_row

T = TypeVar("T")

#: A deadlock or a lost connection is tried again at once; a database that kept us waiting is not.
TRIES = 3
PATIENCE = 1.0  # seconds
READ_AT_ONCE = 500


class _Spare(threading.local):
    """The connection beside the thread's own, while a transaction makes it necessary."""

    connection: BaseDatabaseWrapper | None = None


class DatabaseBackend(DatabaseGroups, ResultBackend):
    """Keeps documents in a table of the project's database."""

    def __init__(self, url: str = "", **options: Any) -> None:
        ResultBackend.__init__(self, url, **options)
        DatabaseGroups.__init__(self)
        self._listeners: dict[str, Listener] = {}

    @property
    def transactional_alias(self) -> str:  # type: ignore[override]
        """The database alias that the router gives for writing results."""
        return router.db_for_write(TaskResult)

    @cached_property
    def _spare(self) -> _Spare:
        return _Spare()

    def as_uri(self) -> str:
        """Return the alias of this store and that of its database."""
        return f"django-db ({self.transactional_alias})"

    def store_many(self, documents: Sequence[Document]) -> None:
        """Write the documents in one statement, or in one transaction if they are many."""
        if not documents:
            return
        connection = connections[self.transactional_alias]
        moment = moments(connection)
        created = moment(time.time())
        rows = [to_row(document, moment, created) for document in documents]
        try:
            self._try(connection, partial(upsert, connection, rows))
        except Error as error:
            first = documents[0]
            raise BackendStoreError(
                f"The results of {len(documents)} tasks could not be written to the database "
                f"{connection.alias!r}: {error}. The first is {first.task_id}.",
                state=first.status,
                task_id=first.task_id,
            ) from error
        if connection.vendor == "postgresql":
            ended = [stored_id(one.task_id) for one in documents if one.status in states.READY_STATES]
            if ended:
                database_waking.announce(connection, ended)

    def fetch_many(self, task_ids: Sequence[str]) -> dict[str, Document]:
        """Return the stored documents by task id, as of now even inside a transaction."""
        connection = connections[self.transactional_alias]
        found = self._read(connection, task_ids)
        if not _holds_a_snapshot(connection):
            return found
        unsure = [one for one in task_ids if one not in found or found[one].status not in states.READY_STATES]
        if not unsure:
            return found
        with self._beside(connection) as spare:
            for task_id, document in self._read(spare, unsure).items():
                # What this very transaction wrote is not visible from outside, and may be newer.
                if task_id not in found or _fence(document) >= _fence(found[task_id]):
                    found[task_id] = document
        return found

    def wait(self, task_id: str, timeout: float | None, interval: float | None = None) -> Document | None:
        """Return the document once its state is terminal, or None after `timeout` seconds."""
        connection = connections[self.transactional_alias]
        if not _holds_a_snapshot(connection):
            return super().wait(task_id, timeout, interval)
        with self._beside(connection):  # one connection for all the times we look
            return super().wait(task_id, timeout, interval)

    @contextmanager
    def waking(self, task_id: str, wake: Callable[[], None]) -> Iterator[Callable[[], bool]]:
        """Call `wake` when the task may have ended; on PostgreSQL only."""
        alias = self.transactional_alias
        if connections[alias].vendor != "postgresql":
            yield bool
            return
        listener = self._listeners.setdefault(alias, Listener(alias))
        waiter = Waiter(stored_id(task_id), wake)
        listener.enter(waiter)
        try:
            yield lambda: waiter.hears
        finally:
            listener.leave(waiter)

    def close(self) -> None:
        """End the threads that wake those who wait."""
        for listener in self._listeners.values():
            listener.stop()

    def after_fork(self) -> None:
        """Let go of what the parent listens with."""
        for listener in self._listeners.values():
            listener.forget()

    def forget_many(self, task_ids: Sequence[str]) -> None:
        """Delete the rows of the tasks."""
        kept = [stored_id(task_id) for task_id in task_ids]
        results = TaskResult.objects.using(self.transactional_alias)
        for start in range(0, len(kept), READ_AT_ONCE):
            results.filter(task_id__in=kept[start : start + READ_AT_ONCE]).delete()

    def clean_up(self) -> int:
        """Delete what ended RESULT_EXPIRES ago, or was first seen then and never ended."""
        if not settings.RESULT_EXPIRES:
            return 0
        oldest = as_datetime(time.time() - settings.RESULT_EXPIRES)
        if oldest is None:  # before the year 1
            return 0
        pruned = TaskResult.objects.using(self.transactional_alias).older_than(oldest).prune()
        return pruned + self.clean_up_groups(oldest)

    def _read(self, connection: BaseDatabaseWrapper, task_ids: Sequence[str]) -> dict[str, Document]:
        asked = {stored_id(task_id): task_id for task_id in task_ids}
        kept = list(asked)
        found = {}
        as_seconds = seconds(connection)
        for start in range(0, len(kept), READ_AT_ONCE):
            some = kept[start : start + READ_AT_ONCE]
            try:
                rows = self._try(connection, partial(select, connection, some))
            except Error as error:
                raise BackendGetMetaError(
                    f"The results of {len(asked)} tasks could not be read from the database "
                    f"{connection.alias!r}: {error}.",
                    task_id=task_ids[0],
                ) from error
            listener = self._listeners.get(connection.alias)
            if listener is not None and listener.is_wanted:
                listener.live_with(connection.connection)
            for row in rows:
                document = from_row(row, as_seconds)
                document.task_id = asked[document.task_id]
                found[document.task_id] = document
        return found

    def _try(self, connection: BaseDatabaseWrapper, work: Callable[[], T]) -> T:
        """Do the work, again after a deadlock or over a new connection; inside a transaction only once."""
        give_up = time.monotonic() + PATIENCE
        for left in reversed(range(TRIES)):
            try:
                return work()
            except (OperationalError, InterfaceError):
                if not left or connection.in_atomic_block or time.monotonic() > give_up:
                    raise
                if connection.connection is not None and not connection.is_usable():
                    connection.close()
                time.sleep(random.uniform(0.005, 0.05))
        raise AssertionError("unreachable")

    @contextmanager
    def _beside(self, connection: BaseDatabaseWrapper) -> Iterator[BaseDatabaseWrapper]:
        """Give a second connection to the same database; an inner block uses that of the outer one."""
        if self._spare.connection is not None:
            yield self._spare.connection
            return
        spare = self._spare.connection = connection.copy()
        try:
            yield spare
        finally:
            self._spare.connection = None
            spare.close()


def _fence(document: Document) -> int:
    return fence(document.status, document.attempt, document.retries)


def _holds_a_snapshot(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether the connection is in a transaction and so perhaps cannot see what others commit.

    The transaction that a TestCase puts around a test does not count: all there is to see is inside it.
    A database in memory has no second connection that would see more.
    """
    if connection.vendor == "sqlite" and connection.is_in_memory_db():  # type: ignore[attr-defined]
        return False
    if connection.atomic_blocks:
        return not all(block._from_testcase for block in connection.atomic_blocks)  # type: ignore[attr-defined]
    return not connection.get_autocommit()
