"""Sessions of our own on a database server, beside the connections that Django hands out.

They hold locks and listen, so no pool may lend them on: neither Django's, which is passed by, nor a pooler in
front of the server, which the alias in `direct_alias` of the transport options leads past. `Ear` is what a
session on PostgreSQL hears.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from django.db import connections

from djqueue.exceptions import ImproperlyConfigured

#: the transport option that names the alias of the same database for sessions of our own
DIRECT = "direct_alias"


def own_session(alias: str) -> Any:
    """Return a connection to the alias that is nobody else's and not open yet; whoever asks closes it."""
    connection: Any = connections[alias].copy()
    connection.settings_dict["OPTIONS"].pop("pool", None)
    connection.settings_dict["AUTOCOMMIT"] = True  # nothing is heard inside a transaction
    return connection


def direct_alias(alias: str, options: Mapping[str, Any] | None, setting: str) -> str:
    """Return the alias over which sessions of our own reach the database that `alias` names.

    Raises:
        djqueue.exceptions.ImproperlyConfigured: the options of that setting name one that there is not.
    """
    direct = (options or {}).get(DIRECT) or alias
    if direct not in connections:
        raise ImproperlyConfigured(
            f"{setting}[{DIRECT!r}] is {direct!r}, but DATABASES has no such alias; there are"
            f" {', '.join(map(repr, sorted(connections)))}."
        )
    return str(direct)


class Ear:
    """What a session hears on one channel, whichever psycopg opened it."""

    def __init__(self, cursor: Any, channel: str) -> None:
        self._session = cursor.connection
        self._errors = cursor.db.wrap_database_errors
        self._notices: deque[str] = deque()
        self._is_psycopg3 = hasattr(self._session, "pgconn")
        if self._is_psycopg3:
            # What comes in while a statement runs is given to handlers, and to nobody else.
            self._session.add_notify_handler(lambda notice: self._notices.append(notice.payload))
        cursor.execute(f"LISTEN {channel}")

    def fileno(self) -> int:
        """Return the file that is ready to be read when there may be something to hear."""
        return int(self._session.pgconn.socket if self._is_psycopg3 else self._session.fileno())

    def heard(self) -> list[str]:
        """Return the notices that came in, without waiting.

        Raises:
            django.db.DatabaseError: the session is gone.
        """
        with self._errors:
            if self._is_psycopg3:
                self._read()
            else:
                self._session.poll()
                self._notices += [notice.payload for notice in self._session.notifies]
                self._session.notifies.clear()
        notices = list(self._notices)
        self._notices.clear()
        return notices

    def _read(self) -> None:
        connection = self._session.pgconn
        connection.consume_input()
        while (notice := connection.notifies()) is not None:
            self._notices.append(notice.extra.decode())
