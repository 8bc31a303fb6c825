"""Which queues get what is sent to an exchange, kept in a table, as kombu's clients declared it.

Senders ask `queues_for`; the kombu transport binds and unbinds. Queues that live as long as their reader go
with it: nothing is ever written for a subscriber that is gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone
from kombu.common import Broadcast
from kombu.entity import Queue

from djqueue.core.messages import Destination
from djqueue.core.writing import put
from djqueue.exceptions import OperationalError
from djqueue.messaging import brokers, log_lines
from djqueue.messaging.queues import declared_bindings, lets_through
from djqueue.messaging.transports.database.contract import Vendor
from djqueue.models import Binding, Message


def queues_for(vendor: Vendor, place: Destination) -> list[str]:
    """Return the queues that a message to `place` goes to.

    Raises:
        djqueue.exceptions.OperationalError: there is none, so the message would be lost.
    """
    if not place.exchange:
        return [place.routing_key]
    queues = bound_queues(vendor, place.exchange, place.routing_key)
    if not queues or (place.queue and place.queue not in queues):
        declare(vendor.alias, brokers.queues().to_declare(place))
        queues = bound_queues(vendor, place.exchange, place.routing_key)
    if not queues:
        raise OperationalError(
            f"No queue is bound to the exchange {place.exchange!r} for the key {place.routing_key!r},"
            " so the message would be lost. Name the queue, or declare it in DJQUEUE['TASK_QUEUES']."
        )
    return queues


def bound_queues(vendor: Vendor, exchange: str, routing_key: str) -> list[str]:
    """Return the queues bound to `exchange` whose binding lets `routing_key` through, each once.

    Those of subscribers that are gone are removed on the way.
    """
    queues: dict[str, None] = {}
    gone: set[str] = set()
    for binding in Binding.objects.using(vendor.alias).filter(exchange=exchange).order_by("id"):
        if not lets_through(binding.kind, binding.routing_key, routing_key):
            continue
        subscriber = binding.subscriber
        if subscriber and subscriber not in gone and not vendor.is_alive(subscriber):
            gone.add(subscriber)
            drop_subscriber(vendor.alias, subscriber)
        if subscriber not in gone:
            queues[binding.queue] = None
    return list(queues)


def declare(alias: str, queues: Iterable[Queue], subscriber: str = "") -> None:
    """Keep the bindings of the queues; queues of `subscriber` alone live as long as that one does."""
    for queue in queues:
        for exchange, key in declared_bindings(queue):
            own = subscriber if isinstance(queue, Broadcast) else ""
            bind(
                alias,
                Binding(
                    exchange=exchange.name,
                    kind=exchange.type,
                    routing_key=key,
                    queue=queue.name,
                    subscriber=own,
                ),
            )


def bind(alias: str, binding: Binding) -> None:
    """Keep the binding; one that is there already is not written again, clients declare all the time."""
    named: dict[str, Any] = {
        "exchange": binding.exchange,
        "routing_key": binding.routing_key,
        "queue": binding.queue,
    }
    rest: dict[str, Any] = {
        "kind": binding.kind,
        "subscriber": binding.subscriber,
        "keep_for": binding.keep_for,
    }
    if not Binding.objects.using(alias).filter(**named, **rest).exists():
        put(Binding.objects.using(alias), named, rest)


def unbind(alias: str, exchange: str, routing_key: str, queue: str) -> None:
    """Forget the binding."""
    Binding.objects.using(alias).filter(exchange=exchange, routing_key=routing_key, queue=queue).delete()


def drop_queue(alias: str, queue: str) -> None:
    """Forget every binding of the queue, and delete what waits in it."""
    with transaction.atomic(using=alias):
        Binding.objects.using(alias).filter(queue=queue).delete()
        Message.objects.using(alias).filter(queue=queue, claimed_by="").delete()


def subscribers(alias: str) -> set[str]:
    """Return the names of all subscribers that have bindings."""
    named = Binding.objects.using(alias).exclude(subscriber="")
    return set(named.values_list("subscriber", flat=True))


def drop_subscriber(alias: str, subscriber: str) -> bool:
    """Remove the queues that lived with that subscriber; return whether there were any."""
    with transaction.atomic(using=alias):
        own = Binding.objects.using(alias).filter(subscriber=subscriber)
        queues = set(own.values_list("queue", flat=True))
        if not queues:
            return False
        Message.objects.using(alias).filter(queue__in=queues).delete()
        own.delete()
    log_lines.subscriber_gone(subscriber)
    return True


def drop_overdue(alias: str, exchange: str) -> None:
    """Delete what waited too long in the short-lived queues of an exchange."""
    now = timezone.now()
    limited = Binding.objects.using(alias).filter(exchange=exchange, keep_for__gt=0)
    for queue, keep_for in set(limited.values_list("queue", "keep_for")):
        oldest = now - timedelta(seconds=keep_for)
        Message.objects.using(alias).filter(queue=queue, claimed_by="", created__lt=oldest).delete()
