"""Events on the wire: what workers and senders tell monitors, as Celery's monitors read it.

`event` makes one dictionary with the fields that all have in common; a `Stage` publishes it, or a list of
them, to the exchange EVENT_EXCHANGE; a `Receiver` hands them to a monitor. Who sends what when is decided
elsewhere.
"""

# kombu is typed in part.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.messaging import Consumer, Producer

from djqueue.conf import settings
from djqueue.core.names import new_id
from djqueue.messaging import brokers
from djqueue.messaging.connections import connection, library_errors

Event = dict[str, Any]

#: the routing key of a list of events about tasks
TASK_LIST = "task.multi"
#: a receiver looks around at least so often, seconds
ROUND = 1.0


def event(kind: str, hostname: str, **fields: Any) -> Event:
    """Return the event `kind` (such as `task-started`) of the node called `hostname`, happening now.

    A `timestamp` among the fields says when it happened instead.
    """
    now = time.time()
    made = {
        "hostname": hostname,
        "utcoffset": _hours_west(now),
        "pid": os.getpid(),
        "clock": brokers.clock.forward(),
        **fields,
    }
    made.setdefault("timestamp", now)
    made["type"] = kind
    return made


class Stage:
    """Publishes events over one connection, in the name of one node. For one thread at a time."""

    def __init__(self, over: Connection, hostname: str) -> None:
        self._exchange = exchange_for(over)
        self._producer = Producer(over.default_channel, exchange=self._exchange, auto_declare=False)
        self._producer.maybe_declare(self._exchange)
        self._headers = {"hostname": hostname}

    def send(self, told: Event | list[Event]) -> None:
        """Publish one event, or a list of events about tasks in one message."""
        key = TASK_LIST if isinstance(told, list) else told["type"].replace("-", ".")
        self._producer.publish(
            told,
            routing_key=key,
            exchange=self._exchange.name,
            serializer=settings.EVENT_SERIALIZER,
            headers=self._headers,
            delivery_mode=1,
        )


class Receiver:
    """Reads events, for monitors: `for event in Receiver().events(timeout=10)`.

    `routing_key` picks what is read (`#`: everything, `worker.#`, `task.failed`…); Redis brokers hand over
    everything.
    """

    def __init__(self, url: str | None = None, routing_key: str = "#") -> None:
        self._url = url
        self._routing_key = routing_key

    def events(
        self,
        timeout: float | None = None,
        limit: int | None = None,
        on_ready: Callable[[], None] | None = None,
    ) -> Iterator[Event]:
        """Yield events as they come, until none came for `timeout` seconds or `limit` have come.

        `on_ready` is called once everything published from now on will be seen.

        Raises:
            djqueue.exceptions.OperationalError: the broker cannot be reached.
        """
        arrived: list[Event] = []
        number, quiet_since = 0, time.monotonic()
        with connection(self._url) as made, library_errors(made):
            queue = self._queue(made)
            with Consumer(
                made.default_channel,
                [queue],
                no_ack=True,
                accept=[settings.EVENT_SERIALIZER, "json"],
                callbacks=[lambda body, _: arrived.extend(_received(body))],
            ):
                if on_ready is not None:
                    on_ready()
                while timeout is None or time.monotonic() - quiet_since < timeout:
                    try:
                        made.drain_events(timeout=ROUND if timeout is None else min(ROUND, timeout))
                    except TimeoutError:
                        continue
                    for one in arrived:
                        yield one
                        number += 1
                        if number == limit:
                            return
                    arrived.clear()
                    quiet_since = time.monotonic()

    def _queue(self, made: Connection) -> Queue:
        return Queue(
            f"{settings.EVENT_QUEUE_PREFIX}.{new_id()}",
            exchange=exchange_for(made),
            routing_key=self._routing_key,
            durable=False,
            exclusive=True,
            auto_delete=True,
            expires=settings.EVENT_QUEUE_EXPIRES or None,
            message_ttl=settings.EVENT_QUEUE_TTL or None,
        )


def exchange_for(made: Connection) -> Exchange:
    """Return the exchange of events; on Redis it is a fan-out exchange, as kombu's clients expect."""
    kind = "fanout" if made.transport.driver_type == "redis" else "topic"
    return Exchange(settings.EVENT_EXCHANGE, type=kind, durable=True)


def _received(body: Any) -> Iterator[Event]:
    """Yield the events in a message: one, or a list of them."""
    for one in body if isinstance(body, list) else [body]:
        if isinstance(one, dict) and isinstance(one.get("type"), str):
            brokers.clock.adjust(one.get("clock"))
            yield one


def _hours_west(now: float) -> float:
    """Return how far west of UTC this machine's time zone is, in hours."""
    return -time.localtime(now).tm_gmtoff / 3600
