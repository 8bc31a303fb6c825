"""The store `db+<SQLAlchemy URL>`: documents as rows of Celery's tables, in a database of any make.

Workers come in with batches of documents, each of which is one transaction: the rows of its tasks are locked,
compared and written together. A stock Celery reads the rows, and its own are read here.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, tzinfo
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa

from djqueue.conf import settings
from djqueue.exceptions import BackendGetMetaError, BackendStoreError, ImproperlyConfigured
from djqueue.messaging.urls import masked
from djqueue.result.contract import ResultBackend
from djqueue.result.documents import Document
from djqueue_results.backends.sql import refusals, rows
from djqueue_results.backends.sql.engine import Engines
from djqueue_results.backends.sql.tables import LONGEST, prepare, tables, zone_of
from djqueue_results.rows import stored_id

T = TypeVar("T")

#: ids in one statement; some databases take no more than a thousand
AT_ONCE = 500
#: a connection that has died is replaced so often, if finding out took no longer than that (seconds)
TRIES, PATIENCE = 3, 1.0
#: others who write the same rows are given way to so often
RACES = 20
#: columns that decide whether a row may be replaced
_DECIDING = ("id", "task_id", "status", "retries", "djq")
#: what a document can do without, to be stored at all
_FOR_PEOPLE = ("traceback", "name", "args", "kwargs", "worker", "queue", "stamps")


class SqlBackend(ResultBackend):
    """Keeps documents in Celery's tables, from which `celery.backend_cleanup` deletes old ones."""

    def __init__(self, url: str = "", **options: Any) -> None:
        super().__init__(url, **options)
        self._shown = masked(url)
        self._engines = Engines(_parsed(url), self._shown)
        self._tables = tables(settings.DATABASE_TABLE_NAMES, settings.DATABASE_TABLE_SCHEMAS)
        self._is_prepared = False
        self._zone: tzinfo = UTC
        if settings.DATABASE_CREATE_TABLES_AT_SETUP:
            try:
                self._prepare()
            except sa.exc.SQLAlchemyError:
                # The server may be away; whoever uses the store first tries again, and is told.
                self._is_prepared = False

    def as_uri(self) -> str:
        """Return the address with passwords masked."""
        return self._shown

    # -- documents -----------------------------------------------------------------------------------

    def store_many(self, documents: Sequence[Document]) -> None:
        """Write the documents in one transaction. One that the database never takes becomes a FAILURE."""
        if not documents:
            return
        try:
            self._try(partial(self._write, documents))
        except sa.exc.SQLAlchemyError as error:
            if self._is_refusal(error, documents):
                self._store_singly(documents, error)
                return
            first = documents[0]
            raise BackendStoreError(
                f"The results of {len(documents)} tasks could not be written to {self.as_uri()}: "
                f"{refusals.reason(error)} The first is {first.task_id}.",
                state=first.status,
                task_id=first.task_id,
            ) from error

    def fetch_many(self, task_ids: Sequence[str]) -> dict[str, Document]:
        """Return the stored documents by task id."""
        asked = {stored_id(task_id, LONGEST): task_id for task_id in task_ids}
        task = self._tables.task
        found = {}
        for some in _portions(list(asked)):
            for row in self._read(sa.select(task).where(task.c.task_id.in_(some)), task_ids[0]):
                if row["task_id"] in asked:  # some databases think that "a" is "A"
                    task_id = asked[row["task_id"]]
                    found[task_id] = rows.read(task_id, row, self._zone)
        return found

    def forget_many(self, task_ids: Sequence[str]) -> None:
        """Delete the rows of the tasks."""
        task = self._tables.task
        for some in _portions([stored_id(task_id, LONGEST) for task_id in task_ids]):
            self._delete(task, task.c.task_id.in_(some))

    def clean_up(self) -> int:
        """Delete what ended RESULT_EXPIRES ago, or was last written then and never ended."""
        if not settings.RESULT_EXPIRES:
            return 0
        task, group = self._tables

        def delete(connection: sa.Connection) -> int:
            oldest = rows.as_column(time.time() - settings.RESULT_EXPIRES, self._zone)
            if oldest is None:  # before the year 1
                return 0
            never_ended = task.c.date_done.is_(None) & (task.c.djq_stored < oldest)
            connection.execute(sa.delete(group).where(group.c.date_done < oldest))
            return connection.execute(
                sa.delete(task).where((task.c.date_done < oldest) | never_ended)
            ).rowcount

        return self._change(delete)

    # -- groups --------------------------------------------------------------------------------------

    def save_group(self, group_id: str, members: Any) -> None:
        """Keep the group as Celery does."""
        group = self._tables.group
        kept = stored_id(group_id, LONGEST)

        def save(connection: sa.Connection) -> int:
            now = rows.as_column(time.time(), self._zone)
            values = {"result": rows.encoded(json.dumps(members)), "date_done": now}
            update = sa.update(group).where(group.c.taskset_id == kept).values(values)
            insert = sa.insert(group).values(taskset_id=kept, **values)
            return connection.execute(update).rowcount or connection.execute(insert).rowcount

        self._change(save)

    def restore_group(self, group_id: str) -> Any:
        """Return what was kept of the group by us or by Celery, or None."""
        group = self._tables.group
        wanted = sa.select(group).where(group.c.taskset_id == stored_id(group_id, LONGEST))
        found = self._read(wanted, group_id)
        return rows.decoded(found[0]["result"]) if found else None

    def delete_group(self, group_id: str) -> None:
        """Forget the group."""
        group = self._tables.group
        self._delete(group, group.c.taskset_id == stored_id(group_id, LONGEST))

    # -- connections ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Close idle connections."""
        self._engines.close()

    def after_fork(self) -> None:
        """Leave the parent's connections alone."""
        self._engines.after_fork()

    # -- inside --------------------------------------------------------------------------------------

    def _write(self, documents: Sequence[Document]) -> None:
        """Lock the rows of the tasks, find the documents that stand, and write those."""
        by_id: dict[str, list[Document]] = {}
        for document in documents:
            by_id.setdefault(stored_id(document.task_id, LONGEST), []).append(document)
        task = self._tables.task
        with self._engines.changing() as connection:
            new, changed = [], []
            kept = self._locked(connection, sorted(by_id))
            for task_id in sorted(by_id):
                row = None
                fence = rows.fence_of(kept[task_id]) if task_id in kept else None
                for document in by_id[task_id]:
                    if fence is None or document.attempt >= fence:
                        row = rows.write(document, self._zone)
                        fence = rows.fence_of(row)
                if row is not None and task_id in kept:
                    changed.append({**row, "row_id": kept[task_id]["id"]})
                elif row is not None:
                    new.append(row)
            if new:
                connection.execute(sa.insert(task), new)
            if changed:
                connection.execute(sa.update(task).where(task.c.id == sa.bindparam("row_id")), changed)

    def _locked(self, connection: sa.Connection, task_ids: list[str]) -> dict[str, Any]:
        """Return what decides about the rows that exist, always locked in the same order."""
        task = self._tables.task
        deciding = [task.c[name] for name in _DECIDING]
        found = {}
        for some in _portions(task_ids):
            if connection.dialect.name in ("mysql", "mariadb"):
                # Locking a row that does not exist would keep others from inserting beside it.
                some = list(connection.scalars(sa.select(task.c.task_id).where(task.c.task_id.in_(some))))
            if some:
                wanted = sa.select(*deciding).where(task.c.task_id.in_(some)).order_by(task.c.task_id)
                for row in connection.execute(wanted.with_for_update()).mappings():
                    found[row["task_id"]] = row
        return found

    def _store_singly(self, documents: Sequence[Document], error: Exception) -> None:
        """Store one after the other, as some of them will never be taken."""
        if len(documents) > 1:
            for document in documents:
                self.store_many([document])
            return
        document = documents[0]
        if any(getattr(document, name) is not None for name in _FOR_PEOPLE):
            # A column that Celery made may be too small for the traceback, or not take its characters.
            nothing: dict[str, Any] = dict.fromkeys(_FOR_PEOPLE)
            self.store_many([replace(document, **nothing)])
            return
        why = f"The result is too large for {self.as_uri()}, or not what it takes: {refusals.reason(error)}"
        told = document.refused(BackendStoreError(why))
        if document.result == told.result:
            raise BackendStoreError(why, state=document.status, task_id=document.task_id) from error
        self.store_many([told])

    def _is_refusal(self, error: Exception, documents: Sequence[Document]) -> bool:
        """Return whether the database is there, but will never take one of the documents."""
        if refusals.is_refusal(error):
            return True
        engine = self._engines.engine()
        if engine.dialect.name not in ("mysql", "mariadb") or not refusals.is_broken(error):
            return False
        # MySQL hangs up on whoever sends too much; text may double in size on its way.
        try:
            with engine.connect() as connection:
                most = connection.scalar(sa.text("SELECT @@max_allowed_packet"))
        except sa.exc.SQLAlchemyError:
            return False
        return any(2 * len(document.result) > int(most or 0) for document in documents)

    def _read(self, wanted: sa.Select[Any], about: str) -> Sequence[Any]:
        def read() -> Sequence[Any]:
            with self._engines.engine().connect() as connection:
                return connection.execute(wanted).mappings().all()

        try:
            return self._try(read)
        except sa.exc.SQLAlchemyError as error:
            raise BackendGetMetaError(
                f"Results could not be read from {self.as_uri()}: {refusals.reason(error)}", task_id=about
            ) from error

    def _change(self, work: Callable[[sa.Connection], int]) -> int:
        """Do the work in a transaction, and return what it returns: how many rows it changed."""

        def change() -> int:
            with self._engines.changing() as connection:
                return work(connection)

        try:
            return self._try(change)
        except sa.exc.SQLAlchemyError as error:
            raise BackendStoreError(
                f"Nothing could be changed in {self.as_uri()}: {refusals.reason(error)}"
            ) from error

    def _delete(self, table: sa.Table, which: sa.ColumnElement[bool]) -> int:
        return self._change(lambda connection: connection.execute(sa.delete(table).where(which)).rowcount)

    def _try(self, work: Callable[[], T]) -> T:
        """Do the work; again over a new connection, or when others were faster."""
        give_up = time.monotonic() + PATIENCE
        races, breaks = RACES, TRIES
        while True:
            try:
                if not self._is_prepared:
                    self._prepare()
                return work()
            except sa.exc.SQLAlchemyError as error:
                if refusals.is_race(error):
                    races -= 1
                    if not races:
                        raise
                elif refusals.is_broken(error) and time.monotonic() < give_up:
                    breaks -= 1
                    self._is_prepared = False  # the server may have come back without its tables
                    if not breaks:
                        raise
                else:
                    self._is_prepared = False
                    raise
            time.sleep(random.uniform(0.005, 0.05))

    def _prepare(self) -> None:
        prepare(self._engines.engine(), self._tables)
        self._zone = zone_of(self._engines.engine())
        self._is_prepared = True


def _parsed(url: str) -> sa.URL:
    scheme, _, rest = url.partition("://")
    text = settings.DATABASE_URL if scheme == "database" else f"{scheme.removeprefix('db+')}://{rest}"
    if not text:
        raise ImproperlyConfigured("The result store `database` needs DATABASE_URL, or use `db+<URL>`.")
    try:
        parsed = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise ImproperlyConfigured(
            f"RESULT_BACKEND must be `db+` and a URL of SQLAlchemy, such as "
            f"'db+postgresql+psycopg://user:password@host/name'; it is {masked(text)!r}."
        ) from error
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ImproperlyConfigured(
            "Results in a SQLite database in memory are seen by one thread only; name a file, as in "
            "'db+sqlite:////var/lib/results.sqlite3'."
        )
    return parsed


def _portions(items: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]
