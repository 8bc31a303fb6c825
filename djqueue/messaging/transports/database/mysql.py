"""MySQL and MariaDB: claims in steps with SKIP LOCKED, named locks of the session, no wake-ups.

Rows are locked first, then changed, in one short transaction. Receivers look for messages by themselves,
quickly while there are some and twice a second when there are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from logging import WARNING
from typing import Any

from django.db import DatabaseError

from djqueue.exceptions import ImproperlyConfigured
from djqueue.messaging.contract import Problem
from djqueue.messaging.transports.database.leases import LeasedVendor

#: deadlock, lock wait timeout, row locked by another (NOWAIT), record changed since (MariaDB)
GAVE_WAY = frozenset({1213, 1205, 3572, 1020})
#: the longest wait_timeout there is, seconds
A_YEAR = 31_536_000
_LOCK = "CONCAT('djqueue.', MD5(DATABASE()), '.', {key})"


class MySQL(LeasedVendor):
    """MySQL 8 or MariaDB 10.6, or newer."""

    clock = "(UNIX_TIMESTAMP(NOW(6)) + 0e0)"
    unlocked = f"IS_USED_LOCK({_LOCK.format(key='claimer.id')}) IS NULL"
    twice = 0.7  # the holder only notices when it asks something, which it does every half second

    def claim_sql(self, queues: int, columns: Sequence[str]) -> str:
        """There is no UPDATE … RETURNING."""
        raise ImproperlyConfigured("MySQL and MariaDB claim in steps.")

    def gave_way(self, error: DatabaseError) -> bool:
        """Return whether it was a deadlock or a lock that was waited for too long."""
        return bool(error.args and error.args[0] in GAVE_WAY)

    def is_pooled(self, cursor: Any) -> bool:
        """Return whether the session is another than the one this connection was greeted by."""
        cursor.execute("SELECT CONNECTION_ID()")
        return bool(cursor.fetchone()[0] != cursor.connection.thread_id())

    def hold(self, cursor: Any, key: int) -> bool:
        """Take a named lock of the session, which the server does not end for being idle."""
        cursor.execute(f"SET SESSION wait_timeout = {A_YEAR}")
        cursor.execute(f"SELECT GET_LOCK({_LOCK.format(key='%s')}, 0)", [key])
        return bool(cursor.fetchone()[0] == 1)

    def uptime(self, cursor: Any) -> float:
        """Return how long the server has been up."""
        cursor.execute("SHOW GLOBAL STATUS LIKE 'Uptime'")
        return float(cursor.fetchone()[1])

    def problems(self) -> list[Problem]:
        """Return what the isolation level means for claims, too."""
        found = super().problems()
        level = str(self.connection.settings_dict["OPTIONS"].get("isolation_level", "read committed")).lower()
        if level != "read committed":
            found.append(
                Problem(
                    "mysql_isolation",
                    WARNING,
                    f"The database {self.alias!r} works at isolation level {level!r}: claims lock gaps"
                    " between rows, so that senders and workers wait for each other and deadlock.",
                    f"Set DATABASES[{self.alias!r}]['OPTIONS']['isolation_level'] = 'read committed',"
                    " which is Django's default.",
                )
            )
        return found
