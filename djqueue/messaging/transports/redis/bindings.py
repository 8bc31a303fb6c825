"""Which queues get what is sent to an exchange: kombu's tables of bindings, read and written as kombu does.

Senders ask for the queues of a destination; consumers declare theirs. Tables of fan-out exchanges are kept as
well, although nobody is sent anything by them: kombu looks for them.
"""

# kombu is typed in part.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kombu.entity import Queue
from kombu.transport.virtual.exchange import TopicExchange

from djqueue.core.messages import Destination
from djqueue.core.routing import topic_matches
from djqueue.exceptions import OperationalError
from djqueue.messaging import brokers
from djqueue.messaging.queues import declared_bindings
from djqueue.messaging.transports.redis.connections import Server
from djqueue.messaging.transports.redis.keys import Keys

_topic = TopicExchange(None)


def declare(server: Server, keys: Keys, queues: Iterable[Queue]) -> None:
    """Write the bindings of the queues.

    Raises:
        djqueue.exceptions.OperationalError: Redis could not be reached or refused.
    """
    commands: list[tuple[Any, ...]] = []
    for queue in queues:
        for exchange, key in declared_bindings(queue):
            pattern = _topic.key_to_pattern(key) if exchange.type == "topic" else ""
            member = keys.binding(key, pattern, queue.name)
            commands += [
                ("SADD", table(exchange.name), member) for table in (keys.bindings, keys.permanent_bindings)
            ]
    if commands:
        server.pipeline(commands)


def is_fanout(server: Server, keys: Keys, exchange: str) -> bool:
    """Return whether what is sent to the exchange goes to all who listen: our settings say so, or kombu."""
    if exchange in (known := brokers.queues()).exchanges:
        return known.exchanges[exchange] == "fanout"
    return any(not key and not pattern for key, pattern, _ in _bound(server, keys, exchange))


def queues_for(server: Server, keys: Keys, place: Destination) -> list[str]:
    """Return the queues that get what is sent to an exchange; what nobody has bound yet is bound first.

    Raises:
        djqueue.exceptions.OperationalError: there is none, so the message would be lost.
    """
    queues = _matching(server, keys, place)
    if not queues or (place.queue and place.queue not in queues):
        declare(server, keys, brokers.queues().to_declare(place))
        queues = _matching(server, keys, place)
    if not queues:
        raise OperationalError(
            f"No queue is bound to exchange {place.exchange!r} with routing key {place.routing_key!r}: "
            "name the queue, or declare it in DJQUEUE['TASK_QUEUES']."
        )
    return queues


def _matching(server: Server, keys: Keys, place: Destination) -> list[str]:
    return sorted(
        {
            queue
            for key, pattern, queue in _bound(server, keys, place.exchange)
            if queue and (topic_matches(key, place.routing_key) if pattern else key == place.routing_key)
        }
    )


def _bound(server: Server, keys: Keys, exchange: str) -> list[tuple[str, str, str]]:
    return [
        keys.split_binding(member.decode()) for member in server.call("SMEMBERS", keys.bindings(exchange))
    ]
