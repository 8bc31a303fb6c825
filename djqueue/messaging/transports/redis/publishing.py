"""Sending: messages come in, and are in their lists when the call returns, each once.

A sender is a connection with a marker in Redis that says which of its publishes was carried out last. When a
reply is lost, the same publish is sent again under the same number, and a script sees to it that it happens
at most once; the first try of a single message, whose number nobody has used, needs no script. One try takes
`CONNECTING` and `ANSWERING` at most; how many there are the policy says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, repeat
from typing import Any

from djqueue.conf import settings
from djqueue.core.messages import Destination, Outgoing
from djqueue.core.names import new_id
from djqueue.core.retrying import PublishPolicy
from djqueue.exceptions import OperationalError
from djqueue.messaging.transports.idle import Idle
from djqueue.messaging.transports.redis import bindings, envelope, scripts
from djqueue.messaging.transports.redis.broadcasts import Channels
from djqueue.messaging.transports.redis.connections import Refused, Server, Wire
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

#: LPUSH list message · SETEX marker seconds number, as they are on the wire: each argument after its length
_PUSH = (
    b"*3\r\n$5\r\nLPUSH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
    b"*4\r\n$5\r\nSETEX\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
)

Step = tuple[Script, list[str], list[Any]]


class Sender:
    """A connection whose repeated publishes are told from new ones. For one thread at a time."""

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server = server
        self._keys = keys
        self.marker = keys.sender(new_id())
        self._number = 0
        self._wire = self._new_wire()

    def carry_out_once(self, steps: Iterable[Step], name: str, policy: PublishPolicy) -> None:
        """Run those of the steps that were not run under this name before, by whatever sender.

        They must be the same each time. Raises as `carry_out` does.
        """
        own = self.marker, self._number
        self.marker, self._number = self._keys.sender(name), 0
        try:
            for step in steps:
                self.carry_out(step, policy)
        finally:
            self.marker, self._number = own

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
        self._insist(repeat(partial(self._wire.run, script, keys, numbered)), policy)

    def push(self, list_key: str, raw: bytes, policy: PublishPolicy) -> None:
        """Put one message into a list, as the step PUSH would. Raises as `carry_out` does."""
        self._number += 1
        words = (list_key.encode(), raw, self.marker.encode(), b"%d" % MARKER_KEPT, b"%d" % self._number)
        packed = _PUSH % tuple(chain.from_iterable((len(word), word) for word in words))
        numbered = [self._number, MARKER_KEPT, raw]
        again = partial(self._wire.run, scripts.PUSH, [list_key, self.marker], numbered)
        self._insist(chain([partial(self._wire.transaction, packed, 2)], repeat(again)), policy)

    def _insist(self, tries: Iterable[Callable[[], object]], policy: PublishPolicy) -> None:
        pauses: Iterator[float] | None = None
        last_try_at = 0.0
        for attempt in tries:
            try:
                attempt()
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
        self._channels = Channels(options, server.address.db)
        self._senders = Idle(lambda: Sender(server, keys), most=settings.BROKER_POOL_LIMIT or 0)

    def send_many(self, outgoing: Sequence[Outgoing], policy: PublishPolicy, name: str | None = None) -> None:
        """Send the messages; those of one queue and priority stay in order. With a name, once under it.

        Raises:
            djqueue.exceptions.EncodeError: a header or property cannot be written as JSON.
            djqueue.exceptions.OperationalError: Redis could not be reached or refused, or nothing is bound
                to the exchange; messages before that one may have been sent.
        """
        single = self._single(outgoing) if name is None else None
        sender = self._senders.take()
        try:
            if single is not None:
                sender.push(*single, policy)
            elif name is not None:
                sender.carry_out_once(self._steps(outgoing), name, policy)
            else:
                for step in self._steps(outgoing):
                    sender.carry_out(step, policy)
        finally:
            self._senders.put(sender)

    def after_fork(self) -> None:
        """Forget the parent's connections."""
        self._senders.forget()

    def close(self) -> None:
        """Close idle connections."""
        self._senders.close()

    def _single(self, outgoing: Sequence[Outgoing]) -> tuple[str, bytes] | None:
        """Return the list and the bytes of one message that goes to one queue now: the most frequent case."""
        if len(outgoing) != 1:
            return None
        (one,) = outgoing
        place = one.destination
        if place.exchange or (one.due is not None and one.due > time.time() + SOON):
            return None
        priority = one.message.properties.get("priority")
        return self._keys.list_for(place.routing_key, priority), envelope.write(one.message, place)

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
        if not place.exchange:
            return (place.routing_key,)
        if bindings.is_fanout(self._server, self._keys, place.exchange):
            channel = self._channels.name(place.exchange, place.routing_key)
            if not self._server.call("PUBLISH", channel, raw):
                raise OperationalError(
                    f"No worker listens to the exchange {place.exchange!r} at the moment, and Redis keeps"
                    " nothing that is sent to all: the message would be lost."
                )
            return ()
        return bindings.queues_for(self._server, self._keys, place)


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
