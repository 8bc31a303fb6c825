"""Sending: messages come in, and are in their lists when the call returns, each once.

A sender is a connection with a marker in Redis that says which of its publishes was carried out last. When a
reply is lost, the same publish is sent again under the same number, and is carried out at most once. One try
takes `CONNECTING` and `ANSWERING` at most; how many there are the policy says.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from djqueue.core.messages import Destination, Outgoing
from djqueue.core.names import new_id
from djqueue.core.retrying import PublishPolicy
from djqueue.exceptions import OperationalError
from djqueue.messaging.transports.redis import envelope, scripts
from djqueue.messaging.transports.redis.connections import Idle, Refused, Server, Wire
from djqueue.messaging.transports.redis.keys import Keys
from djqueue.messaging.transports.redis.options import Options
from djqueue.messaging.transports.redis.scripts import Script

#: the longest that one try takes: to connect and to be answered, seconds
CONNECTING, ANSWERING = 1.5, 2.5
#: how long a marker outlives its last use, seconds
MARKER_KEPT = 600
#: messages and bytes in one step
MOST_MESSAGES, MOST_BYTES = 500, 4 * 1024 * 1024
#: what is due sooner is sent at once, seconds
SOON = 1.0

Step = tuple[Script, list[str], list[Any]]


class Sender:
    """A connection whose repeated publishes are told from new ones. For one thread at a time."""

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server = server
        self.marker = keys.sender(new_id())
        self._number = 0
        self._wire = self._new_wire()

    def carry_out(self, step: Step, policy: PublishPolicy) -> None:
        """Run one step, again after an error that may pass, as often as the policy says.

        Once more than that and at once, because an idle connection may have died unnoticed.

        Raises:
            djqueue.exceptions.OperationalError: Redis could not be reached or refused.
        """
        script, keys, arguments = step
        self._number += 1
        keys.insert(1, self.marker)
        numbered = [self._number, MARKER_KEPT, *arguments]
        pauses: Iterator[float] | None = None
        last_try_at = 0.0
        while True:
            try:
                self._wire.run(script, keys, numbered)
                return
            except OperationalError as error:
                if isinstance(error, Refused) and not error.is_temporary:
                    raise
                if pauses is None:
                    pauses = chain([0.0], policy.pauses())
                    last_try_at = time.monotonic() + policy.timeout
                pause = next(pauses, None)
                if pause is None or time.monotonic() + pause > last_try_at:
                    raise
            time.sleep(pause)

    def close(self) -> None:
        """Close the connection."""
        self._wire.close()

    def _new_wire(self) -> Wire:
        connection = self._server.address.connection(answers_within=ANSWERING)
        connection.socket_connect_timeout = CONNECTING
        return Wire(connection)


class Publisher:
    """Sends for a whole process; safe to use from several threads."""

    def __init__(self, server: Server, keys: Keys, options: Options) -> None:
        self._server = server
        self._keys = keys
        self._fanout_prefix, self._fanout_patterns = _fanout(options, server.address.db)
        self._senders = Idle(lambda: Sender(server, keys))

    def send_many(self, outgoing: Sequence[Outgoing], policy: PublishPolicy) -> None:
        """Send the messages; those of one queue and priority stay in order.

        Raises:
            djqueue.exceptions.EncodeError: a header or property cannot be written as JSON.
            djqueue.exceptions.OperationalError: Redis could not be reached or refused, or nothing is bound
                to the exchange; messages before that one may have been sent.
        """
        single = self._single(outgoing[0]) if len(outgoing) == 1 else None
        sender = self._senders.take()
        try:
            for step in (single,) if single else self._steps(outgoing):
                sender.carry_out(step, policy)
        finally:
            self._senders.put(sender)

    def after_fork(self) -> None:
        """Forget the parent's connections."""
        self._senders.forget()

    def close(self) -> None:
        """Close idle connections."""
        self._senders.close()

    def _single(self, one: Outgoing) -> Step | None:
        """Return the step that sends one message to one queue: the most frequent case, without the groups."""
        place = one.destination
        queue = place.queue or (place.routing_key if not place.exchange else None)
        if queue is None:
            return None
        raw = envelope.write(one.message, place)
        list_key = self._keys.list_for(queue, one.message.properties.get("priority"))
        if one.due is not None and one.due > time.time() + SOON:
            return self._schedule(queue, list_key, [round(one.due * 1000), raw])
        return scripts.PUSH, [list_key], [raw]

    def _steps(self, outgoing: Sequence[Outgoing]) -> Iterator[Step]:
        soon = time.time() + SOON
        now: dict[str, list[bytes]] = {}
        later: dict[tuple[str, str], list[tuple[int, bytes]]] = {}
        for one in outgoing:
            raw = envelope.write(one.message, one.destination)
            priority = one.message.properties.get("priority")
            for queue in self._queues(one.destination, raw):
                list_key = self._keys.list_for(queue, priority)
                if one.due is not None and one.due > soon:
                    later.setdefault((queue, list_key), []).append((round(one.due * 1000), raw))
                else:
                    now.setdefault(list_key, []).append(raw)
        for list_key, messages in now.items():
            for some in _portions([(raw, raw) for raw in messages]):
                yield scripts.PUSH, [list_key], some
        for (queue, list_key), moments in later.items():
            for some in _portions([((due, raw), raw) for due, raw in moments]):
                yield self._schedule(queue, list_key, [value for pair in some for value in pair])

    def _schedule(self, queue: str, list_key: str, arguments: list[Any]) -> Step:
        keys = self._keys
        return (
            scripts.SCHEDULE,
            [list_key, keys.consumers(queue), keys.delayed(list_key), keys.delayed_lists],
            arguments,
        )

    def _queues(self, place: Destination, raw: bytes) -> Sequence[str]:
        """Return the queues of a destination; what goes to a fan-out exchange is published here and now."""
        if place.queue or not place.exchange:
            return (place.queue or place.routing_key,)
        members = self._server.call("SMEMBERS", self._keys.bindings(place.exchange))
        bound = [self._keys.split_binding(member.decode()) for member in members]
        if any(not key and not pattern for key, pattern, _ in bound):
            self._server.call("PUBLISH", self._channel(place), raw)
            return ()
        queues = [
            queue
            for key, pattern, queue in bound
            if queue and (_topic_matches(key, place.routing_key) if pattern else key == place.routing_key)
        ]
        if not queues:
            raise OperationalError(
                f"No queue is bound to exchange {place.exchange!r} with routing key {place.routing_key!r}: "
                "name the queue, or start the worker that declares it."
            )
        return sorted(set(queues))

    def _channel(self, place: Destination) -> str:
        channel = f"{self._fanout_prefix}{place.exchange}"
        if place.routing_key and self._fanout_patterns:
            channel = f"{channel}/{place.routing_key}"
        return channel


def _portions(weighed: Sequence[tuple[Any, bytes]]) -> Iterator[list[Any]]:
    """Cut into portions that Redis can deal with in one step without keeping others waiting."""
    portion: list[Any] = []
    size = 0
    for value, raw in weighed:
        if portion and (len(portion) == MOST_MESSAGES or size + len(raw) > MOST_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(value)
        size += len(raw)
    if portion:
        yield portion


def _topic_matches(pattern: str, routing_key: str) -> bool:
    """Return whether the words match: `*` stands for one word, `#` for any number of them."""
    words = routing_key.split(".")
    #: how many words the parts so far can stand for
    ends = {0}
    for part in pattern.split("."):
        if part == "#":
            ends = set(range(min(ends, default=len(words) + 1), len(words) + 1))
        else:
            ends = {n + 1 for n in ends if n < len(words) and part in ("*", words[n])}
    return len(words) in ends


def _fanout(options: Options, db: int) -> tuple[str, bool]:
    given = options.fanout_prefix
    prefix = given if isinstance(given, str) else "/{db}." if given else ""
    return options.global_keyprefix + prefix.format(db=db), options.fanout_patterns
