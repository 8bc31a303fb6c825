"""What there must be in RabbitMQ before a message can be sent or received: queues, exchanges, bindings.

Declared exactly as Celery and kombu do, so that both can share queues. A queue that exists with other
arguments is used as it is. Delays go through kombu's `celery_delayed_…` exchanges and queues.
"""

# kombu is typed in part.
# mypy: disable-error-code="no-untyped-call,attr-defined"

from __future__ import annotations

from typing import Any

from amqp.exceptions import AMQPError, NotFound, PreconditionFailed
from kombu.entity import Exchange, Queue
from kombu.transport.native_delayed_delivery import (
    CELERY_DELAYED_DELIVERY_EXCHANGE,
    MAX_NUMBER_OF_BITS_TO_USE,
    declare_native_delayed_delivery_exchanges_and_queues,
    level_name,
)

from djqueue.conf import settings
from djqueue.messaging import log_lines
from djqueue.messaging.transports.amqp.codec import LONGEST_SHORT
from djqueue.messaging.transports.amqp.wire import Wire

#: the longest delay in one go, seconds; more than eight years
LONGEST_DELAY = 2**MAX_NUMBER_OF_BITS_TO_USE - 1
#: the exchange that delayed messages are published to
DELAYING = level_name(MAX_NUMBER_OF_BITS_TO_USE - 1)
#: the exchange that they come from
DELAYED = CELERY_DELAYED_DELIVERY_EXCHANGE
#: the longest name of a queue that delayed messages can go to: bits and dots stand before it
LONGEST_DELAYED = LONGEST_SHORT - 2 * MAX_NUMBER_OF_BITS_TO_USE


def declare(wire: Wire, queue: Queue) -> None:
    """Declare a queue, its exchange and their binding."""
    if queue.no_declare:
        return
    channel = wire.channel()
    try:
        queue.bind(channel).declare()
    except PreconditionFailed as refusal:
        # It is there, and mandatory publishing and consuming work with whatever is there.
        log_lines.declared_otherwise(queue.name, refusal.reply_text)
        wire.channel().queue_declare(queue.name, passive=True)
    finally:
        _close(channel)


def exists(wire: Wire, name: str) -> int | None:
    """Return how many messages are ready in a queue, or None when there is no such queue."""
    channel = wire.channel()
    try:
        declared: Any = channel.queue_declare(name, passive=True)
    except NotFound:
        return None
    _close(channel)
    return int(declared.message_count)


def bind_to_delays(wire: Wire, name: str) -> None:
    """Let delayed messages for a queue find it. May be done before anybody has declared the delays."""
    channel = wire.channel()
    Exchange(DELAYED, type="topic").bind(channel).declare()
    # Words, not "#": a queue called b must not get what is for a.b.
    key = "*." * MAX_NUMBER_OF_BITS_TO_USE + name
    channel.queue_bind(name, DELAYED, key)
    _close(channel)


def declare_delays(wire: Wire) -> None:
    """Declare the exchanges and queues that hold messages until they are due."""
    declare_native_delayed_delivery_exchanges_and_queues(
        wire, settings.BROKER_NATIVE_DELAYED_DELIVERY_QUEUE_TYPE
    )


def delayed_key(name: str, seconds: int) -> str:
    """Return the routing key that takes a message to a queue after so many whole seconds (from 1)."""
    bits = f"{min(seconds, LONGEST_DELAY):0{MAX_NUMBER_OF_BITS_TO_USE}b}"
    return f"{'.'.join(bits)}.{name}"


def _close(channel: Any) -> None:
    try:
        if channel.is_open:
            channel.close()
    except (AMQPError, AttributeError):  # RabbitMQ had closed it
        return
