"""The tables of Celery 5.7's database store, and two columns of ours beside Celery's.

Names and schemas come in, tables leave; `prepare` makes on a database what is missing there. Where Celery
made a table before, its columns stay as they are: on MySQL they hold less than those made here.
"""

from __future__ import annotations

import random
import time
from datetime import UTC, tzinfo
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

#: characters of an id and a name
LONGEST = 155
#: others may make the same table at the same moment
TRIES = 10

_MYSQL = ("mysql", "mariadb")
_number = sa.Integer().with_variant(sa.BigInteger(), "mssql")
# MySQL's BLOB ends at 64 KB, its TEXT too, and its DATETIME has whole seconds only.
_bytes = sa.LargeBinary().with_variant(mysql.LONGBLOB(), *_MYSQL)
_text = sa.Text().with_variant(mysql.LONGTEXT(charset="utf8mb4"), *_MYSQL)
_moment = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), *_MYSQL)


class Tables(NamedTuple):
    """The table of tasks and that of groups."""

    task: sa.Table
    group: sa.Table


def tables(names: Any, schemas: Any) -> Tables:
    """Return the tables, called and placed as `names` and `schemas` say of `task` and `group`."""
    metadata = sa.MetaData()
    task = sa.Table(
        names.get("task") or "celery_taskmeta",
        metadata,
        _identity("task_id_sequence", schemas.get("task")),
        sa.Column("task_id", _id(), unique=True),
        sa.Column("status", _words(50)),
        sa.Column("result", _bytes),
        sa.Column("date_done", _moment, index=True),
        sa.Column("traceback", _text),
        sa.Column("children", _bytes),
        sa.Column("name", _words(LONGEST)),
        sa.Column("args", _bytes),
        sa.Column("kwargs", _bytes),
        sa.Column("worker", _words(LONGEST)),
        sa.Column("retries", sa.Integer),
        sa.Column("queue", _words(LONGEST)),
        sa.Column("stamps", _bytes),
        # Ours: what Celery has no column for, as JSON, and when the row was last written.
        sa.Column("djq", _bytes),
        sa.Column("djq_stored", _moment),
        schema=schemas.get("task"),
        sqlite_autoincrement=True,
    )
    group = sa.Table(
        names.get("group") or "celery_tasksetmeta",
        metadata,
        _identity("taskset_id_sequence", schemas.get("group")),
        sa.Column("taskset_id", _id(), unique=True),
        sa.Column("result", _bytes),
        sa.Column("date_done", _moment, index=True),
        schema=schemas.get("group"),
        sqlite_autoincrement=True,
    )
    return Tables(task, group)


def prepare(engine: sa.Engine, wanted: Tables) -> None:
    """Make the tables and columns that are missing. Raises what the database says."""
    for left in reversed(range(TRIES)):
        try:
            wanted.task.metadata.create_all(engine)
            for table in wanted:
                _add_columns(engine, table)
            return
        except sa.exc.DatabaseError:
            if not left:
                raise
            time.sleep(random.uniform(0.01, 0.1))


def zone_of(engine: sa.Engine) -> tzinfo:
    """Return the zone in which Celery's moments stand in the columns, which name none.

    It writes UTC; PostgreSQL turns that into the time of its session's zone.
    """
    if engine.dialect.name != "postgresql":
        return UTC
    with engine.connect() as connection:
        try:
            return ZoneInfo(str(connection.exec_driver_sql("SHOW TimeZone").scalar()))
        except (ZoneInfoNotFoundError, ValueError):
            return UTC


def _add_columns(engine: sa.Engine, table: sa.Table) -> None:
    found = {column["name"] for column in sa.inspect(engine).get_columns(table.name, schema=table.schema)}
    missing = [column for column in table.columns if column.name not in found]
    if not missing:
        return
    name = engine.dialect.identifier_preparer.format_table(table)
    with engine.begin() as connection:
        for column in missing:
            described = sa.schema.CreateColumn(column).compile(dialect=engine.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {name} ADD {described}")


def _identity(sequence: str, schema: str | None) -> sa.Column[Any]:
    return sa.Column(
        "id", _number, sa.Sequence(sequence, schema=schema), primary_key=True, autoincrement=True
    )


def _id() -> Any:
    """Return the type of ids: on MySQL one that tells capitals from small letters."""
    exact = mysql.VARCHAR(LONGEST, charset="utf8mb4", collation="utf8mb4_bin")
    return sa.String(LONGEST).with_variant(exact, *_MYSQL)


def _words(length: int) -> Any:
    return sa.String(length).with_variant(mysql.VARCHAR(length, charset="utf8mb4"), *_MYSQL)
