"""kombu's way to the same tables: `kombu.Connection("django://default")` publishes and consumes.

Remote control, events and stock Celery clients come in through here. Messages are the broker's own rows, so
either side reads what the other wrote. What is sent to an exchange goes to the queues in the table of
bindings; queues of their own that readers of events and control have live exactly as long as they do.
"""

# kombu's classes are half typed: what they declare is not always what they take.
# mypy: disable-error-code="no-untyped-call,assignment,override,misc"

from __future__ import annotations

import time
from queue import Empty
from typing import Any

import django
from django.db import DatabaseError, InterfaceError, connections, transaction
from kombu.transport import virtual

from djqueue.core.messages import Destination, Outgoing, WireMessage
from djqueue.exceptions import ImproperlyConfigured, OperationalError
from djqueue.messaging import brokers
from djqueue.messaging.tables.rows import Unreadable, to_message, to_row
from djqueue.messaging.transports.database import bindings, claims
from djqueue.messaging.transports.database.broker import DatabaseBroker
from djqueue.messaging.transports.database.subscriber import Subscriber
from djqueue.models import Binding, Message

#: how often a consumer looks without being woken, seconds
ROUND = 1.0
#: what kombu keeps among the properties and the table has in columns, or nobody needs
_TRANSIENT = frozenset({"delivery_info", "delivery_tag", "body_encoding"})


class QoS(virtual.QoS):
    """Answers for messages that were handed out: done, given back, or dead."""

    def ack(self, delivery_tag: str) -> None:
        """Done with: the row goes."""
        self.channel.claims_of(self.get(delivery_tag)).delete([int(delivery_tag)])
        super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Give the message back to the head of its queue, or bury it."""
        own = self.channel.claims_of(self.get(delivery_tag))
        if requeue:
            own.release([int(delivery_tag)])
            self.channel.announce([self.get(delivery_tag).queue])
        else:
            with transaction.atomic(using=self.channel.alias):
                own.bury(int(delivery_tag), "rejected", "refused by its consumer")
        super().ack(delivery_tag)

    def restore_unacked(self) -> list[Any]:
        """Give back what was not answered."""
        self._flush()
        for tag, message in list(self._delivered.items()):
            self.channel.claims_of(message).release([int(tag)])
            self.channel.announce([message.queue])
        self._delivered.clear()
        return []

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Give back what was not answered; if that fails, others do it when this process is gone."""
        self._on_collect.cancel()
        try:
            self.restore_unacked()
        except (DatabaseError, InterfaceError):
            self._delivered.clear()


class KombuMessage(virtual.Message):
    """A message as kombu's consumers see it; knows the queue it came from."""

    def __init__(self, payload: dict[str, Any], channel: Any = None, **kwargs: Any) -> None:
        super().__init__(payload, channel=channel, **kwargs)
        self.queue = payload["queue"]


class Channel(virtual.Channel):
    """kombu's channel over the tables."""

    QoS = QoS
    Message = KombuMessage
    supports_fanout = True
    body_encoding = None  # bodies are bytes in the table; nothing has to be made text
    from_transport_options = ("deadletter_queue",)

    def __init__(self, connection: Transport, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self.alias = connection.broker.alias
        self._transport = connection
        self._own_queues: dict[str, float] = {}  # those that live as long as the connection → keep_for
        self._without_acks: set[str] = set()
        self._next_sweep = 0.0

    # -- publishing ----------------------------------------------------------------------------------

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        vendor = self._transport.broker.vendor
        row = to_row(_outgoing(message, queue), queue, claims.moment(vendor.connection))
        claims.insert(vendor, [row])
        self.announce([queue])

    def _put_fanout(self, exchange: str, message: dict[str, Any], routing_key: str = "", **_: Any) -> None:
        for queue in self._lookup(exchange, routing_key):
            self._put(queue, message)

    def _lookup(self, exchange: str, routing_key: str, default: str | None = None) -> list[str]:
        if not exchange:
            return [routing_key or default or ""]
        now = time.monotonic()
        if now >= self._next_sweep:
            self._next_sweep = now + ROUND
            bindings.drop_overdue(self.alias, exchange)
        return bindings.bound_queues(self._transport.broker.vendor, exchange, routing_key)

    def basic_publish(self, message: dict[str, Any], exchange: str, routing_key: str, **kwargs: Any) -> Any:
        """Publish; a task that would reach no queue is refused, anything else is dropped as AMQP does."""
        if exchange and "task" in (message.get("headers") or {}) and not self._lookup(exchange, routing_key):
            raise OperationalError(
                f"No queue is bound to the exchange {exchange!r} for the key {routing_key!r}, so the task"
                " would be lost. Declare the queue first."
            )
        return super().basic_publish(message, exchange, routing_key, **kwargs)

    # -- consuming -----------------------------------------------------------------------------------

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        """Consume from `queue`."""
        if no_ack:
            self._without_acks.add(queue)
        return super().basic_consume(queue, no_ack, *args, **kwargs)

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        """Return one message, or None."""
        message = super().basic_get(queue, no_ack, **kwargs)
        if message is not None and no_ack:
            self.claims_of(message).delete([int(message.delivery_tag)])
        return message

    def _get_and_deliver(self, queue: str, callback: Any) -> None:
        payload = self._get(queue)
        if queue in self._without_acks:
            self._transport.subscriber.claims(queue).delete([int(payload["properties"]["delivery_tag"])])
        callback(payload, queue)

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        own = self._transport.subscriber.claims(queue)
        due, now = own.next_due(), self._transport.subscriber.now()
        if due is not None and due <= now:
            own.make_ready(now)
        for row in own.take(1) if own.has_ready() else ():
            try:
                return _payload(row)
            except Unreadable as error:
                with transaction.atomic(using=self.alias):
                    own.bury(row[0], "undecodable", str(error))
        raise Empty

    def claims_of(self, message: KombuMessage) -> claims.Claims:
        """Return the claims that the message was taken with."""
        return self._transport.subscriber.claims(message.queue)

    # -- queues and bindings -------------------------------------------------------------------------

    def _new_queue(self, queue: str, **options: Any) -> None:
        if options.get("auto_delete") or options.get("exclusive"):
            time_to_live = (options.get("arguments") or {}).get("x-message-ttl") or 0
            self._own_queues[queue] = time_to_live / 1000
            self._keep_binding("", "direct", queue, queue)

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        self._keep_binding(exchange, self.typeof(exchange).type, routing_key or "", queue)

    def _keep_binding(self, exchange: str, kind: str, routing_key: str, queue: str) -> None:
        lives_with_us = queue in self._own_queues
        binding = Binding(
            exchange=exchange,
            kind=kind,
            routing_key=routing_key,
            queue=queue,
            subscriber=self._transport.subscriber.name if lives_with_us else "",
            keep_for=self._own_queues.get(queue, 0),
        )
        bindings.bind(self.alias, binding)

    def queue_unbind(
        self, queue: str, exchange: str = "", routing_key: str = "", arguments: Any = None, **kwargs: Any
    ) -> None:
        """Forget a binding."""
        super().queue_unbind(queue, exchange, routing_key, arguments, **kwargs)
        bindings.unbind(self.alias, exchange, routing_key, queue)

    def _delete(self, queue: str, *args: Any, **kwargs: Any) -> None:
        bindings.drop_queue(self.alias, queue)

    def queue_delete(
        self, queue: str, if_unused: bool = False, if_empty: bool = False, **kwargs: Any
    ) -> None:
        """Delete a queue with its bindings and what waits in it."""
        if if_empty and self._size(queue):
            return
        super().queue_delete(queue, if_unused, if_empty, **kwargs)
        bindings.drop_queue(self.alias, queue)
        self._own_queues.pop(queue, None)

    def _has_queue(self, queue: str, **_: Any) -> bool:
        return any(
            model.objects.using(self.alias).filter(queue=queue).exists() for model in (Binding, Message)
        )

    def _size(self, queue: str) -> int:
        return claims.size(connections[self.alias], queue)

    def _purge(self, queue: str) -> int:
        return claims.purge(connections[self.alias], queue)

    def announce(self, queues: list[str]) -> None:
        """Wake whoever consumes the queues, when what was written is committed."""
        self._transport.broker.vendor.announce(queues)


class Transport(virtual.Transport):
    """One kombu connection to a database alias."""

    Channel = Channel
    driver_type = driver_name = "django"
    #: the URL comes here as it was written: kombu would lose the capitals of the alias
    can_parse_url = True
    default_port = 0
    polling_interval = ROUND
    connection_errors = (*virtual.Transport.connection_errors, DatabaseError, InterfaceError)
    channel_errors = (*virtual.Transport.channel_errors, OperationalError)
    implements = virtual.Transport.implements.extend(
        asynchronous=False, exchange_type=frozenset(["direct", "topic", "fanout"])
    )

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        url = str(client.hostname or "")
        broker = brokers.broker(url if "://" in url else f"django://{url}")
        if not isinstance(broker, DatabaseBroker):
            raise ImproperlyConfigured(f"{broker!r} is no database; this transport is for django:// only.")
        self.broker = broker
        self._subscriber: Subscriber | None = None

    @property
    def subscriber(self) -> Subscriber:
        """The connection's name among the living, made when it is first needed."""
        if self._subscriber is None:
            if why := self.broker.vendor.why_no_worker():
                raise ImproperlyConfigured(why)
            self._subscriber = Subscriber(self.broker.vendor)
        return self._subscriber

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        """Deliver one message, waiting up to `timeout` seconds for it.

        Raises:
            TimeoutError: there was none.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        cycle: Any = self.cycle
        while True:
            try:
                cycle.get(self._deliver, timeout=timeout)
                return
            except Empty:
                left = ROUND if deadline is None else min(deadline - time.monotonic(), ROUND)
                if left <= 0:
                    raise TimeoutError(f"No message came within {timeout} s.") from None
                self.subscriber.wait(left, list(self._callbacks))

    def close_connection(self, connection: Any) -> None:
        """Close the channels, give everything back and leave."""
        super().close_connection(connection)
        if self._subscriber is not None:
            self._subscriber.leave()
            self._subscriber = None

    def driver_version(self) -> str:
        """Return Django's version."""
        return django.get_version()

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        """Return the broker's address; there is no password in it."""
        return repr(self.broker)


def _outgoing(message: dict[str, Any], queue: str) -> Outgoing:
    """Return what kombu publishes in the broker's own form."""
    properties = message["properties"]
    place = properties.get("delivery_info") or {}
    body = message["body"]
    return Outgoing(
        WireMessage(
            message.get("headers") or {},
            {name: value for name, value in properties.items() if name not in _TRANSIENT},
            body.encode() if isinstance(body, str) else bytes(body or b""),
            message.get("content-type") or "",
            message.get("content-encoding") or "",
        ),
        Destination(place.get("exchange") or "", place.get("routing_key") or queue, queue),
    )


def _payload(row: claims.Row) -> dict[str, Any]:
    """Return a claimed row in the form kombu's channels deliver."""
    key, _, queue, exchange, routing_key, _, redelivered, *content = row
    message = to_message(*content)
    place = {"exchange": exchange, "routing_key": routing_key, "redelivered": bool(redelivered)}
    return {
        "queue": queue,
        "body": message.body,
        "headers": message.headers,
        "properties": {**message.properties, "delivery_tag": str(key), "delivery_info": place},
        "content-type": message.content_type or None,
        "content-encoding": message.content_encoding or None,
    }
