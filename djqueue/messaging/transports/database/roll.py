"""The roll of the living on a database server: rows that are leases, entered, renewed, looked at, removed.

Keepers of leases come in with a cursor; all times are the server's. Nothing here decides who is dead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from djqueue.messaging.transports.database.server import ServerVendor
from djqueue.models import Claimer

CLAIMERS = Claimer._meta.db_table


class Seen(NamedTuple):
    """One claimer's row as others see it; `ended` is how long ago its lease ended, seconds."""

    key: int
    name: str
    machine: str
    session: str
    started: str
    ended: float
    is_unlocked: bool


def enter(vendor: ServerVendor, cursor: Any, name: str, machine: str, length: float) -> tuple[int, float]:
    """Enter a claimer, with a lease of so many seconds; return its key, and the server's time.

    Raises:
        django.db.IntegrityError: the name is taken.
    """
    cursor.execute(
        f"INSERT INTO {CLAIMERS} (name, lease_until, session, machine, started)"
        f" VALUES (%s, {vendor.clock} + %s, '', %s, '')",
        [name, length, machine],
    )
    cursor.execute(f"SELECT id, {vendor.clock} FROM {CLAIMERS} WHERE name = %s", [name])
    key, now = cursor.fetchone()
    return int(key), float(now)


def renew(vendor: ServerVendor, cursor: Any, key: int, session: str, length: float) -> float | None:
    """Renew the lease, and note the session; return the server's time, None if the row is gone."""
    cursor.execute(
        f"UPDATE {CLAIMERS} SET lease_until = {vendor.clock} + %s, session = %s WHERE id = %s",
        [length, session, key],
    )
    is_there = cursor.rowcount == 1
    cursor.execute(f"SELECT {vendor.clock}")
    return float(cursor.fetchone()[0]) if is_there else None


def note_started(cursor: Any, key: int, tags: Sequence[str]) -> None:
    """Note what is being run."""
    cursor.execute(f"UPDATE {CLAIMERS} SET started = %s WHERE id = %s", ["\n".join(tags), key])


def everyone(vendor: ServerVendor, cursor: Any) -> list[Seen]:
    """Return all, whoever looks among them."""
    cursor.execute(
        f"SELECT id, name, machine, session, started, {vendor.clock} - lease_until,"
        f" session > '' AND {vendor.unlocked} FROM {CLAIMERS} AS claimer"
    )
    return [Seen._make((*row[:-1], bool(row[-1]))) for row in cursor.fetchall()]


def names(cursor: Any) -> set[str]:
    """Return the names of all."""
    cursor.execute(f"SELECT name FROM {CLAIMERS}")
    return {row[0] for row in cursor.fetchall()}


def is_current(vendor: ServerVendor, cursor: Any, name: str) -> bool:
    """Return whether the claimer has a lease that has not ended."""
    cursor.execute(f"SELECT 1 FROM {CLAIMERS} WHERE name = %s AND lease_until > {vendor.clock}", [name])
    return cursor.fetchone() is not None


def strike(vendor: ServerVendor, cursor: Any, seen: Seen) -> bool:
    """Remove the row if nothing has changed since it was seen; return whether that was so."""
    cursor.execute(
        f"DELETE FROM {CLAIMERS} WHERE id = %s AND session = %s AND {vendor.clock} - lease_until >= %s",
        [seen.key, seen.session, seen.ended],
    )
    return bool(cursor.rowcount == 1)


def leave(cursor: Any, key: int) -> None:
    """Remove the own row."""
    cursor.execute(f"DELETE FROM {CLAIMERS} WHERE id = %s", [key])
