"""The SQL of the database broker: sending, claiming, and what a claimer does with what it holds.

Senders insert; a claimer takes messages in batches, and deletes, gives back, delays or buries those that are
still its own. Vendors that can say which rows a statement changed (RETURNING) need one statement for each; on
the others the rows are selected first, inside the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from typing import Any

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from djqueue.messaging.tables.rows import CLAIMED, CONTENT, SENT, later
from djqueue.messaging.transports.database.contract import MESSAGES, READY, Vendor, insertion
from djqueue.models import DeadLetter

#: ids in one statement, and due messages made ready at a time
CHUNK = 500

_DEAD_LETTERS = DeadLetter._meta.db_table
_INSERT = insertion(SENT)
_BURY = (
    f"INSERT INTO {_DEAD_LETTERS} ({', '.join(CONTENT)}, reason, detail, worker, buried_at)"
    f" SELECT {', '.join(CONTENT)}, %s, %s, claimed_by, %s FROM {MESSAGES} WHERE id = %s AND claimed_by = %s"
)
_DUE = (
    f"SELECT id FROM {MESSAGES} WHERE claimed_by = '' AND queue = %s AND due <= %s ORDER BY due LIMIT {CHUNK}"
)
_FREED = "claimed_by = '', claimed_at = NULL"

Row = Sequence[Any]


def moment(connection: BaseDatabaseWrapper) -> Any:
    """Return the current time as a parameter for a DateTimeField's column."""
    return connection.ops.adapt_datetimefield_value(timezone.now())


def insert(vendor: Vendor, rows: Sequence[Row]) -> None:
    """Insert messages (columns `SENT`) in order. More than one: inside a transaction."""
    with vendor.connection.cursor() as cursor:
        if len(rows) == 1:
            cursor.execute(_INSERT, rows[0])
        else:
            vendor.insert_many(cursor, SENT, rows)


def finish(connection: BaseDatabaseWrapper, key: int, holder: str) -> bool:
    """Delete one message; return whether it was still its holder's."""
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {MESSAGES} WHERE id = %s AND claimed_by = %s", [key, holder])
        return bool(cursor.rowcount == 1)


def size(connection: BaseDatabaseWrapper, queue: str) -> int:
    """Return how many messages of the queue nobody holds."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT COUNT(*) FROM {MESSAGES} WHERE claimed_by = '' AND queue = %s", [queue])
        return int(cursor.fetchone()[0])


def purge(connection: BaseDatabaseWrapper, queue: str) -> int:
    """Delete the messages of the queue that nobody holds, and return how many that were."""
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {MESSAGES} WHERE claimed_by = '' AND queue = %s", [queue])
        return int(cursor.rowcount)


def owners(connection: BaseDatabaseWrapper) -> set[str]:
    """Return the names of all that hold messages."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT DISTINCT claimed_by FROM {MESSAGES} WHERE claimed_by > ''")
        return {row[0] for row in cursor.fetchall()}


class Claims:
    """What one claimer may do to the messages of its queues.

    The verbs that take ids return those that were still the claimer's own. Several statements that belong
    together are put into a transaction by the caller.
    """

    def __init__(self, vendor: Vendor, queues: Sequence[str], claimer: str) -> None:
        self._vendor = vendor
        self._queues = tuple(dict.fromkeys(queues))
        self._claimer = claimer
        self._named = {f"queue{n}": queue for n, queue in enumerate(self._queues)}
        self._claim = vendor.claim_sql(len(self._queues), CLAIMED) if vendor.returning else ""

    def holds(self, claimer: str) -> bool:
        """Return whether that claimer holds messages."""
        with self._connection().cursor() as cursor:
            cursor.execute(f"SELECT 1 FROM {MESSAGES} WHERE claimed_by = %s LIMIT 1", [claimer])
            return cursor.fetchone() is not None

    def held(self) -> set[int]:
        """Return the ids of all that the claimer holds."""
        with self._connection().cursor() as cursor:
            cursor.execute(f"SELECT id FROM {MESSAGES} WHERE claimed_by = %s", [self._claimer])
            return {row[0] for row in cursor.fetchall()}

    def has_ready(self) -> bool:
        """Return whether a message may be taken now; takes no lock."""
        with self._connection().cursor() as cursor:
            for queue in self._queues:
                cursor.execute(f"{READY} LIMIT 1", [queue])
                if cursor.fetchone():
                    return True
        return False

    def take(self, room: int) -> list[Row]:
        """Claim up to `room` messages and return their rows (columns `CLAIMED`), the first to run first."""
        connection = self._connection()
        now = moment(connection)
        if self._claim:
            with connection.cursor() as cursor:
                cursor.execute(
                    self._claim, {"claimer": self._claimer, "moment": now, "room": room, **self._named}
                )
                rows: list[Row] = cursor.fetchall()
        else:
            with transaction.atomic(using=self._vendor.alias, savepoint=False), connection.cursor() as cursor:
                rows = self._take_in_steps(cursor, now, room)
        rows.sort(key=lambda row: (row[1], row[0]))  # by priority and id; RETURNING promises no order
        return rows

    def delete(self, ids: Sequence[int]) -> set[int]:
        """Delete messages that are done with."""
        return self._change(f"DELETE FROM {MESSAGES}", [], ids)

    def release(self, ids: Sequence[int], *, started: bool = False) -> set[int]:
        """Give messages back; they keep their place, which is ahead of everything sent later."""
        return self._change(
            f"UPDATE {MESSAGES} SET {_FREED}, redelivered = %s, starts = starts + %s",
            [True, int(started)],
            ids,
        )

    def delay(self, key: int, due: float, *, started: bool = False) -> set[int]:
        """Give a message back, to be taken from `due` on; only one that was begun counts as redelivered."""
        redelivered = ", redelivered = %s" if started else ""
        return self._change(
            f"UPDATE {MESSAGES} SET {_FREED}, due = %s, starts = starts + %s{redelivered}",
            [later(due), int(started), *([True] if started else [])],
            [key],
        )

    def bury(self, key: int, reason: str, detail: str) -> set[int]:
        """Make a message a dead letter."""
        connection = self._connection()
        with connection.cursor() as cursor:
            cursor.execute(_BURY, [reason, detail, moment(connection), key, self._claimer])
        return self.delete([key])

    def release_all(self) -> list[str]:
        """Give back everything the claimer holds, uncounted, and return the queues it is in."""
        return sorted({queue for _, queue in self.give_back_of(self._claimer, frozenset())})

    def give_back_of(self, claimer: str, begun: Set[int]) -> list[tuple[int, str]]:
        """Give back what a claimer that is gone held; one start more for those in `begun`.

        Returns the ids of all that were given back, with their queues.
        """
        with self._connection().cursor() as cursor:
            # What a transaction still has locked is passed over: whoever runs it may yet come to an end.
            cursor.execute(
                f"SELECT id, queue FROM {MESSAGES} WHERE claimed_by = %s{self._vendor.skip_locked}", [claimer]
            )
            held: list[tuple[int, str]] = cursor.fetchall()
            for count in (0, 1):
                ids = [key for key, _ in held if (key in begun) == bool(count)]
                for chunk in _chunks(ids):
                    cursor.execute(
                        f"UPDATE {MESSAGES} SET {_FREED}, redelivered = %s, starts = starts + %s"
                        f" WHERE id IN ({_listed(chunk)}) AND claimed_by = %s",
                        [True, count, claimer],
                    )
        return held

    def next_due(self) -> float | None:
        """Return when the next message becomes due, in seconds since the epoch."""
        found = []
        with self._connection().cursor() as cursor:
            for queue in self._queues:
                cursor.execute(
                    f"SELECT due FROM {MESSAGES} WHERE claimed_by = '' AND queue = %s AND due > 0"
                    " ORDER BY due LIMIT 1",
                    [queue],
                )
                found += [row[0] for row in cursor.fetchall()]
        return min(found, default=None)

    def make_ready(self, now: float) -> int:
        """Let the messages that are due by `now` be taken, some hundred at a time; return how many."""
        made = 0
        with self._connection().cursor() as cursor:
            for queue in self._queues:
                cursor.execute(_DUE, [queue, now])
                ids = [row[0] for row in cursor.fetchall()]
                if ids:
                    cursor.execute(
                        f"UPDATE {MESSAGES} SET due = NULL"
                        f" WHERE id IN ({_listed(ids)}) AND claimed_by = '' AND due <= %s",
                        [now],
                    )
                    made += cursor.rowcount
        return made

    def _connection(self) -> BaseDatabaseWrapper:
        connection: BaseDatabaseWrapper = self._vendor.connection
        return connection

    def _take_in_steps(self, cursor: Any, now: Any, room: int) -> list[Row]:
        """Lock what comes first in each queue, then claim the first of all of these."""
        ready = READY.replace("id, priority", ", ".join(CLAIMED))
        found: list[Row] = []
        for queue in self._queues:
            cursor.execute(f"{ready} ORDER BY priority, id LIMIT %s{self._vendor.skip_locked}", [queue, room])
            found += cursor.fetchall()
        found.sort(key=lambda row: (row[1], row[0]))
        for chunk in _chunks([row[0] for row in found[:room]]):
            cursor.execute(
                f"UPDATE {MESSAGES} SET claimed_by = %s, claimed_at = %s WHERE id IN ({_listed(chunk)})",
                [self._claimer, now],
            )
        return found[:room]

    def _change(self, statement: str, parameters: list[Any], ids: Sequence[int]) -> set[int]:
        """Run `statement` on those of `ids` that are still ours, and return them."""
        changed: set[int] = set()
        with self._connection().cursor() as cursor:
            for chunk in _chunks(ids):
                ours = f"WHERE id IN ({_listed(chunk)}) AND claimed_by = %s"
                if self._vendor.returning:
                    cursor.execute(f"{statement} {ours} RETURNING id", [*parameters, self._claimer])
                    changed.update(row[0] for row in cursor.fetchall())
                    continue
                lock = " FOR UPDATE" if self._vendor.skip_locked else ""
                cursor.execute(f"SELECT id FROM {MESSAGES} {ours}{lock}", [self._claimer])
                changed.update(row[0] for row in cursor.fetchall())
                cursor.execute(f"{statement} {ours}", [*parameters, self._claimer])
        return changed


def _chunks(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]


def _listed(ids: Sequence[int]) -> str:
    """Return the ids as SQL; drivers take longer over a parameter for each than servers over all of it."""
    return ", ".join(f"{key:d}" for key in ids)
