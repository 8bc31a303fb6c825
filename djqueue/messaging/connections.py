"""kombu's view of the broker, for code that talks AMQP terms itself: remote control, events, migration.

A URL comes in, a `kombu.Connection` leaves. djqueue's own messages do not go through it. No such connection
tries for ever: kombu's patience is set here, and `library_errors` says what it raises when it has run out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kombu.connection import Connection
from kombu.exceptions import KombuError

from djqueue.conf import settings
from djqueue.exceptions import ImproperlyConfigured, OperationalError
from djqueue.messaging import brokers
from djqueue.messaging.urls import masked

#: how kombu connects and waits unless BROKER_TRANSPORT_OPTIONS say otherwise; seconds
PATIENCE = {
    "max_retries": 2,
    "interval_start": 0.0,
    "interval_step": 0.2,
    "interval_max": 0.5,
    "socket_connect_timeout": 3.0,
}
#: Redis' name, and AMQP's, for how long an answer or a write may take; without them AMQP waits for ever
ANSWERING = ("socket_timeout", "read_timeout", "write_timeout")
#: how long that is unless BROKER_TRANSPORT_OPTIONS say otherwise, seconds
ANSWERS_WITHIN = 5.0


def connection(url: str | None = None, *, answers_within: float = ANSWERS_WITHIN, **more: Any) -> Connection:
    """Return a connection to that broker; when none is given, to the one that messages are sent to.

    `answers_within` is how long an answer may take, in seconds, unless BROKER_TRANSPORT_OPTIONS say
    otherwise; `more` are transport options beside those.

    Raises:
        djqueue.exceptions.ImproperlyConfigured: the broker lives in this process only.
    """
    broker = brokers.broker(url)
    url = broker.url
    if broker.capabilities.in_process:
        raise ImproperlyConfigured(f"{url} is a broker inside this process; kombu cannot connect to it.")
    usual = broker.kombu_defaults
    if usual is None:
        usual = {**PATIENCE, **dict.fromkeys(ANSWERING, answers_within)}
    options: dict[str, Any] = {**usual, **settings.BROKER_TRANSPORT_OPTIONS, **more}
    timeout = options.get("socket_connect_timeout", PATIENCE["socket_connect_timeout"])
    made: Connection = Connection(  # type: ignore[no-untyped-call]
        url,
        transport_options=options,
        connect_timeout=timeout,
        **broker.kombu_arguments,
    )
    return made


def errors_of(made: Connection) -> tuple[type[BaseException], ...]:
    """Return what kombu and its drivers raise over this connection when the broker is away."""
    return (OSError, KombuError, *made.connection_errors, *made.channel_errors)


def is_silence(error: BaseException) -> bool:
    """Return whether the broker did not answer in time; each driver has a class of its own for that."""
    return any(base.__name__ == "TimeoutError" for base in type(error).__mro__)


@contextmanager
def library_errors(made: Connection) -> Iterator[None]:
    """Turn what kombu and its drivers raise when the broker is away into `OperationalError`."""
    try:
        yield
    except errors_of(made) as error:
        if isinstance(error, OperationalError):
            raise
        address = masked(settings.BROKER_URL)
        raise OperationalError(f"The broker {address} cannot be reached: {error}") from error
