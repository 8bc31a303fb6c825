"""The way to one broker through kombu: connections, channels, publishing, and what goes wrong on it.

The broker and its sources share a `Link`. What drivers raise leaves as our errors; what is published has its
queues declared first, and is refused if it would reach none.
"""

# kombu is typed in part.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from kombu.common import maybe_declare
from kombu.connection import Connection, ConnectionPool, PooledConnection
from kombu.entity import Exchange
from kombu.transport.virtual import Channel as VirtualChannel

from djqueue.conf import settings
from djqueue.core.messages import Destination, Outgoing
from djqueue.exceptions import DjqueueError, ImproperlyConfigured, OperationalError
from djqueue.messaging import brokers
from djqueue.messaging.transports.generic.messages import prepared
from djqueue.messaging.transports.generic.traits import traits_of, transport_of
from djqueue.messaging.urls import masked

#: how often kombu tries to connect, and its pauses, unless BROKER_TRANSPORT_OPTIONS say otherwise; seconds
PATIENCE = {"max_retries": 2, "interval_start": 0.0, "interval_step": 0.2, "interval_max": 0.5}
#: how long to wait for a connection of the pool, seconds
QUEUEING = 10.0


class Line(Connection):
    """A connection that also ends the threads of client libraries which kombu leaves running (kazoo's)."""

    def _do_close_self(self) -> None:
        channels = list(self._transport.channels or ()) if self._transport else []
        clients = [
            client for channel in channels if (client := getattr(channel, "_client", None)) is not None
        ]
        super()._do_close_self()
        for client in clients:
            for verb in ("stop", "close"):
                with suppress(Exception):  # whatever a driver says to being closed
                    getattr(client, verb)()


class PooledLine(Line, PooledConnection):
    """One of a pool."""


class Lines(ConnectionPool):
    """A pool; kombu's own would make connections that leave those threads running."""

    def new(self) -> PooledLine:
        """Return one more connection, not yet open."""
        return PooledLine(self, **dict(self.connection._info(resolve=False)))


class Link:
    """Connections to the broker of one URL. Safe to use from several threads."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.traits = traits_of(transport_of(url) or "")
        self.exchanges = self._exchanges()
        self._pool: Any = None

    def __repr__(self) -> str:
        return masked(self.url)

    def connection(self) -> Line:
        """Return a new connection, not yet open."""
        return Line(
            self.url,
            transport_options={**PATIENCE, **settings.BROKER_TRANSPORT_OPTIONS},
            connect_timeout=settings.BROKER_CONNECTION_TIMEOUT,
            login_method=settings.BROKER_LOGIN_METHOD,
            ssl=settings.BROKER_USE_SSL,
        )

    @contextmanager
    def channel(self) -> Iterator[Any]:
        """Lend a channel of a pooled connection; a connection that failed is not used again.

        Raises:
            djqueue.exceptions.OperationalError: the broker could not be reached or refused.
            djqueue.exceptions.ImproperlyConfigured: the client library is missing.
        """
        if self._pool is None:
            self._pool = Lines(self.connection(), limit=settings.BROKER_POOL_LIMIT or None)
        with self.errors():
            made = self._pool.acquire(block=True, timeout=QUEUEING)
            try:
                yield made.default_channel
            except DjqueueError:
                raise
            except BaseException:
                with suppress(Exception):
                    made.collect()
                raise
            finally:
                made.release()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what kombu and the drivers raise into our errors."""
        try:
            yield
        except DjqueueError:
            raise
        except ImportError as error:
            raise ImproperlyConfigured(self._what_is_missing(error)) from error
        except Exception as error:  # every driver has errors of its own
            raise OperationalError(
                f"The broker {self!r} cannot be reached, or refused: {type(error).__name__}: {error}"
            ) from error

    def publish(self, channel: Any, one: Outgoing) -> None:
        """Publish one message over the channel.

        Raises:
            djqueue.exceptions.OperationalError: nothing is bound to the exchange.
            djqueue.exceptions.EncodeError: a header or property cannot be written.
        """
        place = one.destination
        if place.exchange:
            self._declare(channel, place)
        else:
            maybe_declare(brokers.queues().get(place.routing_key)(channel))
        channel.basic_publish(
            prepared(channel, one.message), exchange=place.exchange, routing_key=place.routing_key
        )

    def forget(self) -> None:
        """Let go of the connections of another process."""
        self._pool = None

    def close(self) -> None:
        """Close idle connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            with suppress(Exception):  # whatever a driver says to being closed
                pool.force_close_all()

    def _declare(self, channel: Any, place: Destination) -> None:
        declared = brokers.queues()
        kind = declared.exchanges.get(place.exchange, "direct")
        if kind not in self.exchanges:
            raise OperationalError(
                f"The exchange {place.exchange!r} is a {kind} exchange, and {self!r} knows"
                f" {', '.join(sorted(self.exchanges))} only."
            )
        maybe_declare(Exchange(place.exchange, type=kind)(channel))
        for queue in declared.to_declare(place):
            maybe_declare(queue(channel))
        if isinstance(channel, VirtualChannel) and not channel._lookup(place.exchange, place.routing_key):
            raise OperationalError(
                f"No queue is bound to exchange {place.exchange!r} with routing key {place.routing_key!r}: "
                "name the queue, or declare it in DJQUEUE['TASK_QUEUES']."
            )

    def _exchanges(self) -> frozenset[str]:
        """Return the types of exchanges that the transport knows and that work between processes."""
        try:
            transport = Connection(self.url).get_transport_cls()
        except (ImportError, NameError) as error:  # some of kombu's modules stumble over what is not there
            raise ImproperlyConfigured(self._what_is_missing(error)) from error
        except (KeyError, AttributeError) as error:
            raise ImproperlyConfigured(f"BROKER_URL is {masked(self.url)!r}: {error}") from error
        known = frozenset(transport.implements.exchange_type)
        fans_out = getattr(transport.Channel, "supports_fanout", False)
        if not isinstance(fans_out, bool):  # a property, which the options decide
            fans_out = settings.BROKER_TRANSPORT_OPTIONS.get("supports_fanout", False)
        return known | {"fanout"} if fans_out else known - {"fanout"}

    def _what_is_missing(self, error: Exception) -> str:
        extra = self.traits.extra
        fix = f"pip install 'djqueue[{extra}]'." if extra else "Install what it names."
        return f"BROKER_URL is {masked(self.url)!r}, and its client library is missing ({error}). {fix}"
