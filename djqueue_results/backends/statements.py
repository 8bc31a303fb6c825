"""The SQL of the store, for each kind of database: writing many rows at once, and reading them.

Rows of `rows.COLUMNS` come in; each is inserted, or replaces the row of its task if its attempt has reached
that row's fence. SQLite, PostgreSQL and MySQL or MariaDB do it in one statement, other databases row by row.
Columns of `rows.KEPT` keep what they hold when the new row has nothing. Rows of `rows.READ` leave.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, tzinfo
from itertools import chain
from typing import Any, NamedTuple

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from djqueue_results.models import TaskResult
from djqueue_results.rows import COLUMNS, FIRST, KEPT, NO_MOMENT, READ, Moment, Row, as_datetime

TABLE = TaskResult._meta.db_table
#: A statement stays small enough for every server's packet and parameter limits.
ROWS_AT_ONCE = 200
TEXT_AT_ONCE = 4_000_000
MOMENTS = ("date_created", "date_done", "date_started")
#: the years 1 to 9999, without a day at either end for time zones; seconds since the epoch
EARLIEST, LATEST = -62_135_510_400, 253_402_214_400
#: what PostgreSQL calls the kinds of values that are no text, as they are sent
KINDS = {
    **dict.fromkeys(MOMENTS, "double precision"),
    **dict.fromkeys(("retries", "attempt", "fence"), "bigint"),
}
_WRITTEN = tuple(name for name in COLUMNS if name not in FIRST)
_RESULT = COLUMNS.index("result")
_TRACEBACK = COLUMNS.index("traceback")


def upsert(connection: BaseDatabaseWrapper, rows: Sequence[Row]) -> None:
    """Write the rows, all or none; of several for one task the later ones come after the earlier ones."""
    # Always in the same order, so that two workers cannot wait for each other's rows.
    ordered = sorted(rows, key=lambda row: row[0])
    write = DIALECTS.get(connection.vendor, OTHER).write
    statements = list(_in_statements(ordered))
    if len(statements) == 1 and write is not on_conflict_one_by_one:
        write(connection, statements[0])
        return
    with transaction.atomic(connection.alias, savepoint=False):
        for statement in statements:
            write(connection, statement)


def on_conflict_one_by_one(connection: BaseDatabaseWrapper, rows: Sequence[Row]) -> None:
    """SQLite: one prepared statement, run for each row inside the transaction of the caller."""
    with connection.cursor() as cursor:
        cursor.executemany(f"{_insert(connection)} {_placeholders(1)} {_on_conflict(connection)}", rows)


def on_conflict(connection: BaseDatabaseWrapper, rows: Sequence[Row]) -> None:
    """PostgreSQL: one INSERT … ON CONFLICT of rows that travel as one JSON document.

    A parameter for each value took the client seven times as long, and the server twice. What is the same in
    all rows, which is most, is sent once.
    """
    fields: list[str] = []
    once: list[Any] = []
    wanted = []
    for name, column in zip(COLUMNS, zip(*rows, strict=True), strict=True):
        kind = KINDS.get(name, "text")
        if name != "task_id" and column.count(column[0]) == len(column):
            value = f"%s::{kind}"
            once.append(column[0])
        else:
            value = name
            fields.append(name)
        wanted.append(f"to_timestamp({value})" if name in MOMENTS else value)
    places = [COLUMNS.index(name) for name in fields]
    document = json.dumps(
        [{name: row[place] for name, place in zip(fields, places, strict=True)} for row in rows]
    )
    defined = ", ".join(f"{name} {KINDS.get(name, 'text')}" for name in fields)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {TABLE} ({', '.join(COLUMNS)}) SELECT {', '.join(wanted)}"
            f" FROM json_to_recordset(%s::json) AS written ({defined}) {_on_conflict(connection)}",
            [*once, document],
        )


def on_duplicate_key(connection: BaseDatabaseWrapper, rows: Sequence[Row]) -> None:
    """MySQL and MariaDB: one INSERT … ON DUPLICATE KEY UPDATE for all rows."""
    quote = connection.ops.quote_name
    # Assignments see those before them, so the fence, which decides, comes last (as it does in COLUMNS).
    # VALUES() is old-fashioned in MySQL, but the only spelling that MariaDB shares.
    reached = f"VALUES({quote('attempt')}) >= {quote('fence')}"
    changes = []
    for name in map(quote, _WRITTEN):
        new = f"VALUES({name})"
        if name.strip("`") in KEPT:
            new = f"COALESCE({new}, {name})"
        changes.append(f"{name} = IF({reached}, {new}, {name})")
    with connection.cursor() as cursor:
        cursor.execute(
            f"{_insert(connection)} {_placeholders(len(rows))} ON DUPLICATE KEY UPDATE {', '.join(changes)}",
            list(chain.from_iterable(rows)),
        )


def row_by_row(connection: BaseDatabaseWrapper, rows: Sequence[Row]) -> None:
    """Any database: lock or insert each row, then compare in Python."""
    results = TaskResult.objects.using(connection.alias)
    with transaction.atomic(connection.alias):
        for row in rows:
            values = dict(zip(COLUMNS, row, strict=True))
            task_id = values.pop("task_id")
            stored, is_new = results.select_for_update().get_or_create(task_id=task_id, defaults=values)
            if is_new or values["attempt"] < stored.fence:
                continue
            changes = {name: values[name] for name in _WRITTEN if not (name in KEPT and values[name] is None)}
            results.filter(pk=stored.pk).update(**changes)


def as_number(connection: BaseDatabaseWrapper) -> Moment:
    """PostgreSQL: seconds, which the server turns into a moment; none that Python could not read again."""

    def moment(seconds: float | None) -> float | None:
        return seconds if seconds is not None and EARLIEST <= seconds < LATEST else None

    return moment


def as_local_text(connection: BaseDatabaseWrapper) -> Moment:
    """SQLite, MySQL and MariaDB: text in the connection's zone; Django's adapter costs a third of a write."""
    zone = _zone(connection)

    def moment(seconds: float | None) -> str | None:
        if seconds is None:
            return None
        try:
            return str(datetime.fromtimestamp(seconds, zone).replace(tzinfo=None))
        except NO_MOMENT:
            return None

    return moment


def as_they_are(connection: BaseDatabaseWrapper) -> Moment:
    """Any database: Django's ORM adapts moments itself."""
    return as_datetime


class Dialect(NamedTuple):
    """How one kind of database is written to, and in what form moments are."""

    write: Callable[[BaseDatabaseWrapper, Sequence[Row]], None]
    moments: Callable[[BaseDatabaseWrapper], Moment]


OTHER = Dialect(row_by_row, as_they_are)
DIALECTS = {
    "sqlite": Dialect(on_conflict_one_by_one, as_local_text),
    "postgresql": Dialect(on_conflict, as_number),
    "mysql": Dialect(on_duplicate_key, as_local_text),
}


def _in_statements(ordered: Sequence[Row]) -> Iterator[list[Row]]:
    """Split the rows so that no statement is too large or holds a task twice (PostgreSQL refuses that)."""
    statement: list[Row] = []
    text, previous = 0, None
    for row in ordered:
        size = len(row[_RESULT]) + len(row[_TRACEBACK] or "")
        text += size
        if statement and (len(statement) == ROWS_AT_ONCE or text > TEXT_AT_ONCE or row[0] == previous):
            yield statement
            statement, text = [], size
        statement.append(row)
        previous = row[0]
    if statement:
        yield statement


def _insert(connection: BaseDatabaseWrapper) -> str:
    quote = connection.ops.quote_name
    return f"INSERT INTO {quote(TABLE)} ({', '.join(map(quote, COLUMNS))}) VALUES"


def _placeholders(rows: int) -> str:
    one = f"({', '.join(['%s'] * len(COLUMNS))})"
    return ", ".join([one] * rows)


def _on_conflict(connection: BaseDatabaseWrapper) -> str:
    quote = connection.ops.quote_name
    table = quote(TABLE)
    changes = []
    for name in _WRITTEN:
        column = quote(name)
        new = f"COALESCE(excluded.{column}, {table}.{column})" if name in KEPT else f"excluded.{column}"
        changes.append(f"{column} = {new}")
    return (
        f"ON CONFLICT ({quote('task_id')}) DO UPDATE SET {', '.join(changes)} "
        f"WHERE excluded.{quote('attempt')} >= {table}.{quote('fence')}"
    )


def select(connection: BaseDatabaseWrapper, task_ids: Sequence[str]) -> list[Row]:
    """Return the rows of the tasks, over this very connection; a queryset would take the thread's own."""
    quote = connection.ops.quote_name
    columns = ", ".join(map(quote, READ))
    wanted = ", ".join(["%s"] * len(task_ids))
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {columns} FROM {quote(TABLE)} WHERE {quote('task_id')} IN ({wanted})", list(task_ids)
        )
        return list(cursor.fetchall())


def moments(connection: BaseDatabaseWrapper) -> Moment:
    """Return the function that makes a parameter for `upsert` of a moment in seconds since the epoch."""
    return DIALECTS.get(connection.vendor, OTHER).moments(connection)


def seconds(connection: BaseDatabaseWrapper) -> Callable[[Any], float | None]:
    """Return the function that undoes `moments` for what `select` gave."""
    zone = _zone(connection)

    def as_seconds(moment: datetime | str | None) -> float | None:
        if moment is None:
            return None
        if isinstance(moment, str):
            moment = datetime.fromisoformat(moment)
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()

    return as_seconds


def _zone(connection: BaseDatabaseWrapper) -> tzinfo:
    zone: tzinfo | None = connection.timezone
    return zone or timezone.get_default_timezone()
