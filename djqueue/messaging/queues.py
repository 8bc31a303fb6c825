"""The queues there are: declared in TASK_QUEUES, made when first named, or added at run time.

Settings come in; kombu's `Queue` objects leave, by name or alias, exactly as Celery declares them, so that
both can share a broker. Transports declare them, the router asks for their `Address`, workers for those to
consume. `brokers.queues()` is the registry of this process.
"""

# kombu's entities are typed in part.
# mypy: disable-error-code="no-untyped-call,attr-defined,no-any-return"

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from difflib import get_close_matches
from typing import Any

from kombu.common import Broadcast
from kombu.entity import DELIVERY_MODES, Exchange, Queue, binding

from djqueue.conf import settings
from djqueue.core.messages import Address, Destination
from djqueue.core.routing import topic_matches
from djqueue.exceptions import ImproperlyConfigured, QueueNotFound

#: the settings that a registry is made of
MADE_OF = (
    *("TASK_QUEUES", "TASK_DEFAULT_QUEUE", "TASK_DEFAULT_EXCHANGE", "TASK_DEFAULT_EXCHANGE_TYPE"),
    *("TASK_DEFAULT_ROUTING_KEY", "TASK_DEFAULT_QUEUE_TYPE", "TASK_CREATE_MISSING_QUEUES"),
    *("TASK_CREATE_MISSING_QUEUE_TYPE", "TASK_CREATE_MISSING_QUEUE_EXCHANGE_TYPE"),
    "TASK_QUEUE_MAX_PRIORITY",
)
#: of the queues that belong to one worker each
DIRECT_EXCHANGE = "C.dq2"
#: names that callers make up are remembered up to so many
MOST_MADE_UP = 1_000


class Queues:
    """The queues of one set of settings. Reading is safe from several threads."""

    def __init__(self) -> None:
        self._max_priority = settings.TASK_QUEUE_MAX_PRIORITY
        self._default_exchange = Exchange(
            settings.TASK_DEFAULT_EXCHANGE or settings.TASK_DEFAULT_QUEUE,
            settings.TASK_DEFAULT_EXCHANGE_TYPE,
        )
        self._default_key = settings.TASK_DEFAULT_ROUTING_KEY or settings.TASK_DEFAULT_QUEUE
        self._queues: dict[str, Queue] = {}
        self._aliases: dict[str, str] = {}
        self._addresses: dict[str, Address] = {}
        self._exchanges: dict[str, str] | None = None
        for queue in self._declared():
            self._keep(queue)
        #: those that a worker consumes that is told of none
        self._consumed = list(self._queues)

    def __iter__(self) -> Iterator[Queue]:
        return iter(list(self._queues.values()))

    def __contains__(self, name: str) -> bool:
        return name in self._queues or name in self._aliases

    def get(self, name: str) -> Queue:
        """Return the queue of that name or alias; one that is not known yet is made, if that is allowed.

        Raises:
            djqueue.exceptions.QueueNotFound: there is none, and TASK_CREATE_MISSING_QUEUES is off.
        """
        queue = self._queues.get(self._aliases.get(name, name))
        if queue is not None:
            return queue
        if not settings.TASK_CREATE_MISSING_QUEUES:
            raise QueueNotFound(self._why_not_found(name))
        queue = self._missing(name)
        if len(self._queues) < MOST_MADE_UP:
            return self._keep(queue)
        return self._completed(queue)

    def address(self, queue: Any) -> Address:
        """Return where messages for a queue (a name, or kombu's `Queue`) are published.

        Raises:
            djqueue.exceptions.QueueNotFound: there is no such queue, and none may be made.
        """
        name = queue if isinstance(queue, str) else queue.name
        known = self._addresses.get(name)
        if known is None:
            if isinstance(queue, Queue) and name not in self:
                self.add(queue)
            known = _address(self.get(name))
            if len(self._addresses) < MOST_MADE_UP:
                self._addresses[name] = known
        return known

    @property
    def exchanges(self) -> Mapping[str, str]:
        """The type of each exchange that a queue here is bound to."""
        if self._exchanges is None:
            self._exchanges = {one.name: str(one.type) for queue in self for one, _ in bindings(queue)}
        return self._exchanges

    def matching(self, place: Destination) -> list[str]:
        """Return the queues that get what is sent to an exchange, if the bindings are those known here."""
        return [
            queue.name
            for queue in self
            if any(
                exchange.name == place.exchange and lets_through(exchange.type, key, place.routing_key)
                for exchange, key in bindings(queue)
            )
        ]

    def to_declare(self, place: Destination) -> list[Queue]:
        """Return the queues that a sender makes sure of before it sends to an exchange."""
        named = [self.get(place.queue)] if place.queue else []
        return named + [
            queue
            for queue in self
            if not isinstance(queue, Broadcast)
            and queue.name != place.queue
            and any(exchange.name == place.exchange for exchange, _ in bindings(queue))
        ]

    def consumed(self, select: Sequence[str] = (), exclude: Sequence[str] = ()) -> list[Queue]:
        """Return the queues that a worker consumes: those of `select`, or all declared ones, without some.

        Raises:
            djqueue.exceptions.QueueNotFound: a queue to consume does not exist, and none may be made.
        """
        chosen = [self.get(name) for name in select or self._consumed]
        without = {self._aliases.get(name, name) for name in exclude}
        return list({queue.name: queue for queue in chosen if queue.name not in without}.values())

    def add(self, queue: Queue | str, **options: Any) -> Queue:
        """Declare a queue from now on, kombu's or one with that name and those options, and return it.

        Options are those of the dictionary form of TASK_QUEUES.
        """
        return self._keep(_copied(queue) if isinstance(queue, Queue) else _from_options(queue, options))

    def remove(self, name: str) -> None:
        """Forget a queue; the broker keeps what it has of it."""
        name = self._aliases.get(name, name)
        self._queues.pop(name, None)
        self._aliases = {alias: one for alias, one in self._aliases.items() if one != name}
        self._forget()

    def _declared(self) -> Iterator[Queue]:
        declared = settings.TASK_QUEUES
        if not declared:
            yield Queue(
                settings.TASK_DEFAULT_QUEUE,
                exchange=self._default_exchange,
                routing_key=self._default_key,
                queue_arguments=_of_type(settings.TASK_DEFAULT_QUEUE_TYPE),
            )
            return
        named = declared.items() if isinstance(declared, Mapping) else ((None, one) for one in declared)
        for name, one in named:
            if isinstance(one, Queue):
                yield _copied(one)
            elif isinstance(one, str):
                yield self._missing(one)
            elif isinstance(one, Mapping):
                yield _from_options(str(name), one)
            else:
                raise ImproperlyConfigured(f"DJQUEUE['TASK_QUEUES'] has {one!r}, which is no kombu Queue.")

    def _missing(self, name: str) -> Queue:
        """Return the queue that is made when a name is not declared."""
        kind = settings.TASK_CREATE_MISSING_QUEUE_EXCHANGE_TYPE or "direct"
        arguments = _of_type(settings.TASK_CREATE_MISSING_QUEUE_TYPE)
        return Queue(name, Exchange(name, kind), routing_key=name, queue_arguments=arguments)

    def _keep(self, queue: Queue) -> Queue:
        self._queues = {**self._queues, queue.name: self._completed(queue)}  # others may be reading
        if queue.alias:
            self._aliases[queue.alias] = queue.name
        self._forget()
        return queue

    def _completed(self, queue: Queue) -> Queue:
        """Fill in what the queue leaves to the settings, as Celery does."""
        if queue.exchange is None or not queue.exchange.name:
            queue.exchange = self._default_exchange
        if not queue.routing_key:
            queue.routing_key = self._default_key
        if self._max_priority is not None:
            queue.queue_arguments = {"x-max-priority": self._max_priority, **(queue.queue_arguments or {})}
        return queue

    def _forget(self) -> None:
        self._addresses = {}
        self._exchanges = None

    def _why_not_found(self, name: str) -> str:
        known = {*self._queues, *self._aliases}
        near = get_close_matches(name, known, n=1)
        meant = f"Did you mean {near[0]!r}? " if near else f"There are {', '.join(sorted(known))}. "
        return (
            f"There is no queue {name!r}, and TASK_CREATE_MISSING_QUEUES is off. {meant}"
            "Declare it in DJQUEUE['TASK_QUEUES']."
        )


def worker_direct(node: str) -> Queue:
    """Return the queue that belongs to the worker called `node` alone (WORKER_DIRECT)."""
    return Queue(f"{node}.dq2", Exchange(DIRECT_EXCHANGE), routing_key=node)


def bindings(queue: Queue) -> list[tuple[Exchange, str]]:
    """Return each exchange that a queue is bound to, with the routing key (or pattern) of the binding."""
    main = [(queue.exchange, queue.routing_key or "")] if queue.exchange and queue.exchange.name else []
    return [*main, *((one.exchange, one.routing_key or "") for one in queue.bindings)]


def _copied(queue: Queue) -> Queue:
    """Return a copy to be completed: the one in the settings stays as it was written."""
    made = copy(queue)
    made.on_declared = queue.on_declared
    return made


def declared_bindings(queue: Queue) -> list[tuple[Exchange, str]]:
    """Return the bindings that senders and consumers declare: none of a queue that says `no_declare`."""
    return [] if queue.no_declare else bindings(queue)


def is_bound(queue: Queue) -> bool:
    """Return whether the queue can be reached in other ways than by its name."""
    return any(exchange.type != "direct" or exchange.name != queue.name for exchange, _ in bindings(queue))


def lets_through(exchange_type: str, pattern: str, routing_key: str) -> bool:
    """Return whether an exchange gives what comes under `routing_key` to a queue bound by `pattern`."""
    if exchange_type == "fanout":
        return True
    return topic_matches(pattern, routing_key) if exchange_type == "topic" else pattern == routing_key


def _from_options(name: str, options: Mapping[str, Any]) -> Queue:
    """Return the queue of one entry of the dictionary form."""
    given = {**options}
    given["routing_key"] = given.get("routing_key") or given.get("binding_key") or name
    if "bindings" in given:
        given["bindings"] = [_binding(one) for one in given["bindings"] or ()]
    return Queue.from_dict(name, **given)


def _binding(one: Any) -> binding:
    if not isinstance(one, Mapping):
        return one
    exchange = Exchange(one.get("exchange", ""), type=one.get("exchange_type") or "direct")
    return binding(exchange, one.get("routing_key") or "", one.get("arguments"))


def _of_type(kind: str | None) -> dict[str, str] | None:
    return {"x-queue-type": kind} if kind and kind != "classic" else None


def _address(queue: Queue) -> Address:
    exchange = queue.exchange
    mode = exchange.delivery_mode
    return Address(
        queue.name,
        exchange.name,
        exchange.type,
        queue.routing_key,
        is_private=isinstance(queue, Broadcast),
        delivery_mode=DELIVERY_MODES.get(mode, mode) if mode else None,
    )
