"""Replies over Redis: a caller's queue is a list, as kombu has it, and expires when nothing comes any more.

Replies come in and are pushed like any message; the caller blocks on its list. No command is left under way
between two calls, so what was taken from the list has always arrived.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from djqueue.conf import settings
from djqueue.core.messages import Destination, Outgoing, WireMessage
from djqueue.core.names import reply_address
from djqueue.core.retrying import ONCE
from djqueue.messaging.contract import Replies, Reply
from djqueue.messaging.transports.idle import Idle
from djqueue.messaging.transports.redis import envelope
from djqueue.messaging.transports.redis.connections import Server, Unreachable
from djqueue.messaging.transports.redis.envelope import Unreadable
from djqueue.messaging.transports.redis.keys import Keys
from djqueue.messaging.transports.redis.publishing import Publisher

#: so many at a time
MOST_REPLIES = 1_000
#: a server that has to answer in so many seconds may take so much longer, seconds
GRACE = 5.0
#: 0 seconds are for ever to Redis
SHORTEST = 0.01


class RedisReplies(Replies):
    """Replies as elements of lists."""

    def __init__(
        self, on_reply: Callable[[str, bytes], None], server: Server, keys: Keys, publisher: Publisher
    ) -> None:
        super().__init__(on_reply)
        self._server = server
        self._keys = keys
        self._publisher = publisher
        self._blocking = Idle(server.wire)

    def send(self, replies: Sequence[Reply]) -> None:
        mode = 2 if settings.RESULT_PERSISTENT else 1
        self._publisher.send_many([_outgoing(reply, mode) for reply in replies], ONCE)
        if settings.RESULT_EXPIRES:
            lists = {self._keys.lists(reply.address)[0] for reply in replies}
            lifetime = max(math.ceil(settings.RESULT_EXPIRES), 1)
            self._server.pipeline([("EXPIRE", one, lifetime) for one in lists])

    def declare(self) -> None:
        """Do nothing: a list is there as soon as there is something in it."""

    def collect(self) -> None:
        for one in self._keys.lists(reply_address()):
            while taken := self._server.call("RPOP", one, MOST_REPLIES):
                for raw in taken:
                    self._take(raw)

    def wait(self, seconds: float) -> None:
        seconds = max(seconds, SHORTEST)
        give_up_at = time.monotonic() + seconds + GRACE
        wire = self._blocking.take()
        try:
            wire.send("BRPOP", *self._keys.lists(reply_address()), round(seconds, 3))
            answer = wire.read(within=seconds + GRACE)
            if answer is None and time.monotonic() >= give_up_at:
                raise Unreachable(f"Redis did not answer within {seconds + GRACE:.0f} seconds.")
        except BaseException:
            wire.close()
            raise
        finally:
            self._blocking.put(wire)
        if answer is not None:
            self._take(answer[1])

    def close(self) -> None:
        self._blocking.close()

    def _take(self, raw: Any) -> None:
        try:
            message = envelope.read(raw, "", "").message
        except Unreadable:
            return  # whoever wrote this knew the queue's name, and no more
        self.on_reply(str(message.properties.get("correlation_id") or ""), message.body)


def _outgoing(reply: Reply, mode: int) -> Outgoing:
    properties = {"correlation_id": reply.correlation_id, "delivery_mode": mode, "priority": 0}
    message = WireMessage({}, properties, reply.body, reply.content_type, reply.content_encoding)
    return Outgoing(message, Destination("", reply.address))
