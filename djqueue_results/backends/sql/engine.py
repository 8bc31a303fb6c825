"""SQLAlchemy's engine for the store: made from the settings, one for each process.

A URL comes in; connections leave, and transactions in which nobody else changes what was looked at. A process
that was forked makes an engine of its own and never touches what it inherited.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from django.utils.module_loading import import_string
from sqlalchemy.pool import NullPool

from djqueue.conf import settings
from djqueue.exceptions import ImproperlyConfigured


class Engines:
    """The engine of this process. `shown` is the URL with passwords masked, for errors."""

    def __init__(self, url: sa.URL, shown: str) -> None:
        self._url = url
        self._shown = shown
        # What belongs to the parent is kept: thrown away, it might say goodbye to the server.
        self._inherited: list[sa.Engine] = []
        self._pid = os.getpid()
        self._engine = self._make()

    def engine(self) -> sa.Engine:
        """Return the engine of this process."""
        if self._pid != os.getpid():
            self.after_fork()
        return self._engine

    def after_fork(self) -> None:
        """Make an engine for this process."""
        self._inherited.append(self._engine)
        self._engine, self._pid = self._make(), os.getpid()

    def close(self) -> None:
        """Close idle connections."""
        self.engine().dispose()

    @contextmanager
    def changing(self) -> Iterator[sa.Connection]:
        """Give a connection in a transaction, which is committed at the end of the block."""
        engine = self.engine()
        if engine.dialect.name != "sqlite":
            with engine.begin() as connection:
                yield connection
            return
        # Rows cannot be locked in SQLite, and its driver begins transactions only with the first change.
        with engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise

    def _make(self) -> sa.Engine:
        # Parameters are results and arguments: they have no place in logs.
        options: dict[str, Any] = {"hide_parameters": True, **settings.DATABASE_ENGINE_OPTIONS}
        if settings.DATABASE_SHORT_LIVED_SESSIONS:
            options = {name: value for name, value in options.items() if not name.startswith("pool")}
            options["poolclass"] = NullPool
        try:
            engine = sa.create_engine(self._url, **options)
        except ImportError as error:
            raise ImproperlyConfigured(
                f"The database {self._shown} needs a driver that is not installed: {error}."
            ) from error
        except (sa.exc.ArgumentError, TypeError, ValueError) as error:
            raise ImproperlyConfigured(
                f"RESULT_BACKEND ({self._shown}) or DATABASE_ENGINE_OPTIONS are nothing that SQLAlchemy "
                f"takes: {error}"
            ) from error
        callback = settings.DATABASE_ENGINE_CALLBACK
        if isinstance(callback, str):
            try:
                callback = import_string(callback)
            except ImportError as error:
                raise ImproperlyConfigured(f"DATABASE_ENGINE_CALLBACK: {error}") from error
        if callback is not None:
            callback(engine)
        return engine
