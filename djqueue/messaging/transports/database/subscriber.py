"""A kombu connection as seen by the others: a name among the living, which can be woken.

The kombu transport makes one when a connection first consumes, or declares a queue that is to live as long
as the connection. What it claimed comes back, and its queues go, when it leaves or dies.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from secrets import token_hex

from djqueue.exceptions import OperationalError
from djqueue.messaging.transports.database import bindings
from djqueue.messaging.transports.database.claims import Claims
from djqueue.messaging.transports.database.contract import Vendor

#: how long a connection sleeps at most where nobody can wake it, seconds
DEAF_PAUSE = 0.1


class Subscriber:
    """One consuming kombu connection on one database alias."""

    def __init__(self, vendor: Vendor) -> None:
        self.name = f"kombu-{socket.gethostname()}-{os.getpid()}-{token_hex(4)}"
        self._vendor = vendor
        self._presence = vendor.presence(self.name)
        self._claims: dict[str, Claims] = {}
        self._presence.take()
        self._presence.wait((), 0)  # from now on it can be woken

    def claims(self, queue: str) -> Claims:
        """Return the claims on one queue.

        Raises:
            djqueue.exceptions.OperationalError: others took the connection for dead, and its messages.
        """
        if self._presence.is_lost:
            raise OperationalError(
                f"The connection {self.name} gave no sign of life for so long that others took over what it"
                " held; connect again."
            )
        known = self._claims.get(queue)
        if known is None:
            known = self._claims[queue] = Claims(self._vendor, [queue], self.name)
        return known

    def wait(self, seconds: float, queues: Iterable[str]) -> None:
        """Sleep until somebody rings, at most `seconds`."""
        self._presence.wait(queues, seconds if self._presence.hears else min(seconds, DEAF_PAUSE))

    def leave(self) -> None:
        """Give everything back and take the own queues along."""
        try:
            self._vendor.mend()
            self._vendor.patiently(self._give_everything_back)
        finally:
            self._presence.leave()

    def now(self) -> float:
        """Return the time by the broker's clock."""
        return self._presence.now()

    def _give_everything_back(self) -> None:
        bindings.drop_subscriber(self._vendor.alias, self.name)
        for claims in list(self._claims.values())[:1]:  # any of them knows all that the name holds
            claims.release_all()
