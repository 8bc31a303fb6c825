"""A kombu connection as seen by the others: a name, a lock that says it lives, a doorbell.

The kombu transport makes one when a connection first consumes, or declares a queue that is to live as long
as the connection. What it claimed comes back, and its queues go, when it leaves or dies.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterable
from pathlib import Path
from secrets import token_hex

from djqueue.messaging.transports.database import bindings, liveness, sqlite
from djqueue.messaging.transports.database.claims import Claims
from djqueue.messaging.transports.database.doorbell import Doorbell


class Subscriber:
    """One consuming kombu connection on one database alias."""

    def __init__(self, alias: str, directory: Path) -> None:
        self.name = f"kombu-{socket.gethostname()}-{os.getpid()}-{token_hex(4)}"
        self._alias = alias
        self._lifeline = liveness.LifeLine(liveness.path_of(directory, self.name))
        self._doorbell = Doorbell(directory, liveness.file_name(self.name))
        self._claims: dict[str, Claims] = {}
        self._lifeline.take()
        try:
            self._doorbell.open()
        except OSError:
            self._doorbell.close()  # then `wait` is a plain pause

    def claims(self, queue: str) -> Claims:
        """Return the claims on one queue."""
        known = self._claims.get(queue)
        if known is None:
            known = self._claims[queue] = Claims(self._alias, [queue], self.name)
        return known

    def wait(self, seconds: float, queues: Iterable[str]) -> None:
        """Sleep until somebody rings, at most `seconds`."""
        descriptor = self._doorbell.fileno()
        select.select([descriptor] if descriptor >= 0 else [], [], [], seconds)
        self._doorbell.rang_for(queues)

    def leave(self) -> None:
        """Give everything back and take the own queues along."""
        try:
            sqlite.when_free(self._give_everything_back)
        finally:
            self._doorbell.close()
            self._lifeline.leave()

    def _give_everything_back(self) -> None:
        bindings.drop_subscriber(self._alias, self.name)
        for claims in list(self._claims.values())[:1]:  # any of them knows all that the name holds
            claims.release_all()
