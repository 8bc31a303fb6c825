"""From a database alias to its vendor: SQLite, PostgreSQL, MySQL and MariaDB; any other only sends.

The broker asks once for each alias; what the vendor remembers lives as long as the broker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from django.db import connections

from djqueue.exceptions import ImproperlyConfigured
from djqueue.messaging.transports.database.contract import Presence, Vendor
from djqueue.messaging.transports.database.mysql import MySQL
from djqueue.messaging.transports.database.postgresql import PostgreSQL
from djqueue.messaging.transports.database.sqlite import SQLite


class SendOnly(Vendor):
    """A database that can keep messages, but from which no worker can take them safely."""

    def claim_sql(self, queues: int, columns: Sequence[str]) -> str:
        """Nothing is ever claimed."""
        raise ImproperlyConfigured(self.why_no_worker())

    def why_no_worker(self) -> str:
        """Return why."""
        return (
            f"The broker is django://{self.alias}, a {self.connection.display_name} database; workers receive"
            " from PostgreSQL, MySQL, MariaDB and SQLite. Set BROKER_URL to the alias of one of these."
        )

    def presence(self, claimer: str) -> Presence:
        """Nobody lives here."""
        raise ImproperlyConfigured(self.why_no_worker())

    def is_alive(self, claimer: str) -> bool:
        """Nobody lives here."""
        return False

    def start_board_path(self, claimer: str) -> Path | None:
        """There is none."""
        return None

    def announce(self, queues: Iterable[str]) -> None:
        """Nobody is there to hear."""


VENDORS: dict[str, type[Vendor]] = {"sqlite": SQLite, "postgresql": PostgreSQL, "mysql": MySQL}


def vendor_of(alias: str) -> Vendor:
    """Return the vendor of the database that the alias names."""
    return VENDORS.get(connections[alias].vendor, SendOnly)(alias)
