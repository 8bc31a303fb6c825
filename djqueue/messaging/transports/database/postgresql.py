"""PostgreSQL: claims in one statement, session locks that die with their holder, NOTIFY as the wake-up.

Notices are sent after the commit of what they announce, in a statement of their own: NOTIFY makes committers
of the whole server wait for each other. Behind a pooler that lends sessions by turns there are neither locks
nor wake-ups; leases and looking do.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from django.db import DatabaseError, InterfaceError

from djqueue.messaging.commits import Joint, join
from djqueue.messaging.transports.database.contract import MESSAGES, one_choice
from djqueue.messaging.transports.database.leases import LeasedVendor
from djqueue.messaging.transports.database.sessions import Ear

CHANNEL = "djqueue"
#: the first half of every advisory lock of ours: "djq" as a number
LOCKS = 0x646A71
#: no second notice for a queue within this time; twice as long after each time that held any back, up to the
#: longest: whoever heard one looks again a little later than both, seconds
QUIET, LONGEST_QUIET = 0.002, 0.02
#: a longer notice names no queues: it is for everyone, bytes
LONGEST_NOTICE = 7_000
#: SQL: do not wait for the disk when this very statement commits; a notice is nothing to keep
UNSYNCED = "set_config('synchronous_commit', 'off', true)"
#: serialization failure, deadlock, lock not available
GAVE_WAY = frozenset({"40001", "40P01", "55P03"})


class PostgreSQL(LeasedVendor):
    """PostgreSQL 14 or newer."""

    returning = True
    looks_first = False
    clock = "extract(epoch FROM clock_timestamp())::double precision"
    unlocked = (
        "NOT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"
        f" AND classid = {LOCKS} AND objid = mod(claimer.id, 2147483648)::oid"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
    )

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        # queue → when its last notice was sent (monotonic), how long none follows, whether any was held back
        self._notified: dict[str, tuple[float, float, bool]] = {}

    def claim_sql(self, queues: int, columns: Sequence[str]) -> str:
        """Return an UPDATE … RETURNING of rows that were locked while they were chosen."""
        chosen = one_choice(queues, self.skip_locked)
        returned = ", ".join(f"message.{name}" for name in columns)
        return (
            f"WITH chosen AS MATERIALIZED ({chosen}) UPDATE {MESSAGES} AS message"
            " SET claimed_by = %(claimer)s, claimed_at = %(moment)s FROM chosen"
            f" WHERE message.id = chosen.id RETURNING {returned}"
        )

    def insert_many(self, cursor: Any, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """COPY them, which takes a tenth of the time; with psycopg 3 only."""
        if getattr(cursor.connection, "pgconn", None) is None:
            super().insert_many(cursor, columns, rows)
            return
        with cursor.copy(f"COPY {MESSAGES} ({', '.join(columns)}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)

    def gave_way(self, error: DatabaseError) -> bool:
        """Return whether it was a deadlock or a failed serialization."""
        return getattr(error.__cause__, "sqlstate", None) in GAVE_WAY

    # -- sessions ------------------------------------------------------------------------------------

    def is_pooled(self, cursor: Any) -> bool:
        """Return whether a pooler is in between."""
        return is_pooled(cursor)

    def hold(self, cursor: Any, key: int) -> bool:
        """Take an advisory lock of the session, which the server does not end for being idle."""
        cursor.execute("SET idle_session_timeout = 0")
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [LOCKS, key % 2**31])
        return bool(cursor.fetchone()[0])

    def uptime(self, cursor: Any) -> float:
        """Return how long the server has been up."""
        cursor.execute("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())")
        return float(cursor.fetchone()[0])

    def listen(self, cursor: Any) -> Ear | None:
        """LISTEN."""
        return Ear(cursor, CHANNEL)

    def heard(self, ear: Ear) -> list[frozenset[str]]:
        """Read what the server has sent."""
        return [frozenset(json.loads(notice or "[]")) for notice in ear.heard()]

    # -- waking --------------------------------------------------------------------------------------

    def announce(self, queues: Iterable[str]) -> None:
        """Send a notice when the transaction that is open, if any, is committed."""
        connection = self.connection
        if connection.in_atomic_block:
            join(connection, Notice, lambda: Notice(self)).queues.update(queues)
        else:
            self.notify(queues)

    def notify(self, queues: Iterable[str]) -> None:
        """Send a notice now. One that cannot be sent is none: receivers look by themselves, too."""
        now = time.monotonic()
        wanted = [queue for queue in queues if self._may_notify(queue, now)]
        if not wanted:
            return
        notice = json.dumps(wanted)
        # A transaction that is open, and that Django does not manage, is not ours to be committed unsynced.
        unsynced = f"{UNSYNCED}, " if self.connection.get_autocommit() else ""
        with suppress(DatabaseError, InterfaceError), self.connection.cursor() as cursor:
            cursor.execute(
                f"SELECT {unsynced}pg_notify(%s, %s)",
                [CHANNEL, notice if len(notice) <= LONGEST_NOTICE else ""],
            )

    def _may_notify(self, queue: str, now: float) -> bool:
        """Return whether it is time for a notice: at once now and then, ever more seldom in a stream."""
        sent, quiet, held_back = self._notified.get(queue, (-math.inf, 0.0, False))
        if now - sent < quiet:
            self._notified[queue] = (sent, quiet, True)
            return False
        self._notified[queue] = (now, min(quiet * 2, LONGEST_QUIET) if held_back else QUIET, False)
        return True


def is_pooled(cursor: Any) -> bool:
    """Return whether the session is another than the one this connection was greeted by."""
    cursor.execute("SELECT pg_backend_pid()")
    return bool(cursor.fetchone()[0] != cursor.connection.info.backend_pid)


class Notice(Joint):
    """A notice that waits for the commit of what it announces."""

    def __init__(self, vendor: PostgreSQL) -> None:
        self.queues: set[str] = set()
        self._vendor = vendor

    def __call__(self) -> None:
        """Send it."""
        self._vendor.notify(self.queues)
