"""kombu's view of the broker, for code that talks AMQP terms itself.

A URL comes in, a `kombu.Connection` leaves. djqueue's own messages do not go through it.
"""

from __future__ import annotations

from kombu.connection import Connection

from djqueue.conf import settings
from djqueue.exceptions import ImproperlyConfigured
from djqueue.messaging import brokers


def connection(url: str | None = None) -> Connection:
    """Return a connection to that broker; to the one of BROKER_URL when none is given.

    Raises:
        djqueue.exceptions.ImproperlyConfigured: the broker lives in this process only.
    """
    url = url or settings.BROKER_URL
    if brokers.broker(url).capabilities.in_process:
        raise ImproperlyConfigured(f"{url} is a broker inside this process; kombu cannot connect to it.")
    made: Connection = Connection(url)  # type: ignore[no-untyped-call]
    return made
