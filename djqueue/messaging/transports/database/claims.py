"""The SQL of the database broker, and all that differs between database vendors.

Senders insert; a claimer takes messages in batches, and deletes, gives back, delays or buries those that are
still its own. Vendors that can say which rows a statement changed (RETURNING) need one statement for each; on
the others the rows are selected first, inside the same transaction.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence, Set
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from djqueue.messaging.transports.database.rows import CLAIMED, CONTENT, SENT, later
from djqueue.models import DeadLetter, Message

#: vendors whose UPDATE and DELETE can return the rows they changed
RETURNING = frozenset({"sqlite", "postgresql"})
#: ids in one statement, and due messages made ready at a time
CHUNK = 500

_MESSAGES, _DEAD_LETTERS = Message._meta.db_table, DeadLetter._meta.db_table
_INSERT = f"INSERT INTO {_MESSAGES} ({', '.join(SENT)}) VALUES ({', '.join(['%s'] * len(SENT))})"
_BURY = (
    f"INSERT INTO {_DEAD_LETTERS} ({', '.join(CONTENT)}, reason, detail, worker, buried_at)"
    f" SELECT {', '.join(CONTENT)}, %s, %s, claimed_by, %s FROM {_MESSAGES} WHERE id = %s AND claimed_by = %s"
)
_READY = f"SELECT id, priority FROM {_MESSAGES} WHERE claimed_by = '' AND queue = %s AND due IS NULL"
_DUE = (
    f"SELECT id FROM {_MESSAGES}"
    f" WHERE claimed_by = '' AND queue = %s AND due <= %s ORDER BY due LIMIT {CHUNK}"
)
_FREED = "claimed_by = '', claimed_at = NULL"

Row = Sequence[Any]


def moment(connection: BaseDatabaseWrapper) -> Any:
    """Return the current time as a parameter for a DateTimeField's column."""
    return connection.ops.adapt_datetimefield_value(timezone.now())


def insert(connection: BaseDatabaseWrapper, rows: Sequence[Row]) -> None:
    """Insert messages (columns `SENT`) in order. More than one: inside a transaction."""
    with connection.cursor() as cursor:
        if len(rows) == 1:
            cursor.execute(_INSERT, rows[0])
        else:
            cursor.executemany(_INSERT, rows)


def size(connection: BaseDatabaseWrapper, queue: str) -> int:
    """Return how many messages of the queue nobody holds."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT COUNT(*) FROM {_MESSAGES} WHERE claimed_by = '' AND queue = %s", [queue])
        return int(cursor.fetchone()[0])


def purge(connection: BaseDatabaseWrapper, queue: str) -> int:
    """Delete the messages of the queue that nobody holds, and return how many that were."""
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {_MESSAGES} WHERE claimed_by = '' AND queue = %s", [queue])
        return int(cursor.rowcount)


def owners(connection: BaseDatabaseWrapper) -> set[str]:
    """Return the names of all that hold messages."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT DISTINCT claimed_by FROM {_MESSAGES} WHERE claimed_by > ''")
        return {row[0] for row in cursor.fetchall()}


class Claims:
    """What one claimer may do to the messages of its queues.

    The verbs that take ids return those that were still the claimer's own. Several statements that belong
    together are put into a transaction by the caller.
    """

    def __init__(
        self, alias: str, queues: Sequence[str], claimer: str, returning: bool | None = None
    ) -> None:
        self._alias = alias
        self._queues = tuple(dict.fromkeys(queues))
        self._claimer = claimer
        self._returning = connections[alias].vendor in RETURNING if returning is None else returning
        self._choice = self._make_choice()

    def holds(self, claimer: str) -> bool:
        """Return whether that claimer holds messages."""
        with self._connection().cursor() as cursor:
            cursor.execute(f"SELECT 1 FROM {_MESSAGES} WHERE claimed_by = %s LIMIT 1", [claimer])
            return cursor.fetchone() is not None

    def has_ready(self) -> bool:
        """Return whether a message may be taken now; takes no lock."""
        with self._connection().cursor() as cursor:
            for queue in self._queues:
                cursor.execute(f"{_READY} LIMIT 1", [queue])
                if cursor.fetchone():
                    return True
        return False

    def take(self, room: int) -> list[Row]:
        """Claim up to `room` messages and return their rows (columns `CLAIMED`), the first to run first."""
        connection = self._connection()
        claim = [self._claimer, moment(connection)]
        with connection.cursor() as cursor:
            if self._returning:
                cursor.execute(
                    f"UPDATE {_MESSAGES} SET claimed_by = %s, claimed_at = %s WHERE id IN ({self._choice})"
                    f" RETURNING {', '.join(CLAIMED)}",
                    [*claim, *self._choice_parameters(room)],
                )
                rows: list[Row] = cursor.fetchall()
            else:
                with transaction.atomic(using=self._alias, savepoint=False):
                    rows = self._take_in_steps(cursor, claim, room)
        rows.sort(key=lambda row: (row[1], row[0]))  # by priority and id; RETURNING promises no order
        return rows

    def delete(self, ids: Sequence[int]) -> set[int]:
        """Delete messages that are done with."""
        return self._change(f"DELETE FROM {_MESSAGES}", [], ids)

    def release(self, ids: Sequence[int], *, started: bool = False) -> set[int]:
        """Give messages back; they keep their place, which is ahead of everything sent later."""
        return self._change(
            f"UPDATE {_MESSAGES} SET {_FREED}, redelivered = %s, starts = starts + %s",
            [True, int(started)],
            ids,
        )

    def delay(self, key: int, due: float, *, started: bool = False) -> set[int]:
        """Give a message back, to be taken from `due` on; only one that was begun counts as redelivered."""
        redelivered = ", redelivered = %s" if started else ""
        return self._change(
            f"UPDATE {_MESSAGES} SET {_FREED}, due = %s, starts = starts + %s{redelivered}",
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
            cursor.execute(f"SELECT id, queue FROM {_MESSAGES} WHERE claimed_by = %s", [claimer])
            held: list[tuple[int, str]] = cursor.fetchall()
            for count in (0, 1):
                ids = [key for key, _ in held if (key in begun) == bool(count)]
                for chunk in _chunks(ids):
                    cursor.execute(
                        f"UPDATE {_MESSAGES} SET {_FREED}, redelivered = %s, starts = starts + %s"
                        f" WHERE id IN ({_marks(chunk)}) AND claimed_by = %s",
                        [True, count, *chunk, claimer],
                    )
        return held

    def next_due(self) -> float | None:
        """Return when the next message becomes due, in seconds since the epoch."""
        found = []
        with self._connection().cursor() as cursor:
            for queue in self._queues:
                cursor.execute(
                    f"SELECT due FROM {_MESSAGES} WHERE claimed_by = '' AND queue = %s AND due > 0"
                    " ORDER BY due LIMIT 1",
                    [queue],
                )
                found += [row[0] for row in cursor.fetchall()]
        return min(found, default=None)

    def make_ready(self) -> int:
        """Let the messages that are due by now be taken, some hundred at a time; return how many."""
        made, now = 0, time.time()
        with self._connection().cursor() as cursor:
            for queue in self._queues:
                cursor.execute(_DUE, [queue, now])
                ids = [row[0] for row in cursor.fetchall()]
                if ids:
                    cursor.execute(
                        f"UPDATE {_MESSAGES} SET due = NULL"
                        f" WHERE id IN ({_marks(ids)}) AND claimed_by = '' AND due <= %s",
                        [*ids, now],
                    )
                    made += cursor.rowcount
        return made

    def _connection(self) -> BaseDatabaseWrapper:
        return connections[self._alias]

    def _make_choice(self) -> str:
        """Return the SELECT that chooses what to take: one range of the index per queue, merged."""
        one = f"{_READY} ORDER BY priority, id LIMIT %s"
        if len(self._queues) == 1:
            return f"SELECT id FROM ({one}) AS chosen"
        arms = " UNION ALL ".join(
            f"SELECT id, priority FROM ({one}) AS arm{n}" for n in range(len(self._queues))
        )
        return f"SELECT id FROM ({arms} ORDER BY priority, id LIMIT %s) AS chosen"

    def _choice_parameters(self, room: int) -> list[Any]:
        parameters = [value for queue in self._queues for value in (queue, room)]
        return parameters if len(self._queues) == 1 else [*parameters, room]

    def _take_in_steps(self, cursor: Any, claim: list[Any], room: int) -> list[Row]:
        cursor.execute(self._choice, self._choice_parameters(room))
        ids = [row[0] for row in cursor.fetchall()]
        taken: list[Row] = []
        for chunk in _chunks(ids):
            cursor.execute(
                f"UPDATE {_MESSAGES} SET claimed_by = %s, claimed_at = %s"
                f" WHERE id IN ({_marks(chunk)}) AND claimed_by = ''",
                [*claim, *chunk],
            )
            cursor.execute(
                f"SELECT {', '.join(CLAIMED)} FROM {_MESSAGES}"
                f" WHERE id IN ({_marks(chunk)}) AND claimed_by = %s",
                [*chunk, self._claimer],
            )
            taken += cursor.fetchall()
        return taken

    def _change(self, statement: str, parameters: list[Any], ids: Sequence[int]) -> set[int]:
        """Run `statement` on those of `ids` that are still ours, and return them."""
        changed: set[int] = set()
        with self._connection().cursor() as cursor:
            for chunk in _chunks(ids):
                ours = f"WHERE id IN ({_marks(chunk)}) AND claimed_by = %s"
                if self._returning:
                    cursor.execute(f"{statement} {ours} RETURNING id", [*parameters, *chunk, self._claimer])
                    changed.update(row[0] for row in cursor.fetchall())
                    continue
                cursor.execute(f"SELECT id FROM {_MESSAGES} {ours}", [*chunk, self._claimer])
                changed.update(row[0] for row in cursor.fetchall())
                cursor.execute(f"{statement} {ours}", [*parameters, *chunk, self._claimer])
        return changed


def _chunks(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]


def _marks(values: Sequence[Any]) -> str:
    return ", ".join(["%s"] * len(values))
