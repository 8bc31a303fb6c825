"""The Redis broker: what a process has of it, apart from receiving.

A URL and BROKER_TRANSPORT_OPTIONS come in; messages go out through `publishing`, sources are made for
workers. Connections are opened when they are needed, and belong to the process that opened them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from djqueue.core.messages import Outgoing, WireMessage
from djqueue.core.retrying import ONCE, PublishPolicy
from djqueue.messaging import boards
from djqueue.messaging.contract import Broker, Capabilities
from djqueue.messaging.transports.redis import delays, revocations
from djqueue.messaging.transports.redis.address import tls
from djqueue.messaging.transports.redis.connections import Server
from djqueue.messaging.transports.redis.keys import Keys
from djqueue.messaging.transports.redis.options import Options
from djqueue.messaging.transports.redis.publishing import Publisher
from djqueue.messaging.transports.redis.replies import RedisReplies
from djqueue.messaging.transports.redis.source import RedisSource


class RedisBroker(Broker):
    """Messages are elements of lists, as kombu keeps them; those being worked on are recorded as held."""

    capabilities = Capabilities(delays=True, counts_starts=True, keeps_dead_letters=True, fences=True)

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(url)
        read = Options.of_broker() if options is None else Options.read(options)
        self._server = Server(url, read)
        self._keys = Keys(read)
        self._publisher = Publisher(self._server, self._keys, read)
        if read.ssl:
            # kombu takes no plain True for a Redis; the least it takes is redis-py's own default.
            self.kombu_arguments = {"ssl": tls(read.ssl) or {"ssl_cert_reqs": "required"}}

    def send_many(self, outgoing: Sequence[Outgoing]) -> None:
        """Send the messages; what is not due yet is kept, if a djqueue worker consumes its queue."""
        self.send_patiently(outgoing, ONCE)

    def send_patiently(self, outgoing: Sequence[Outgoing], policy: PublishPolicy) -> None:
        """Send, and try again as the policy says; a message whose reply was lost is not sent twice."""
        if outgoing:
            self._publisher.send_many(outgoing, policy)

    def send_once(self, outgoing: Sequence[Outgoing], name: str) -> None:
        """Send what was not sent under this name before, by whatever process, in the last ten minutes."""
        if outgoing:
            self._publisher.send_many(outgoing, ONCE, name)

    def source(self, queues: Sequence[str], consumer: str) -> RedisSource:
        """Return a source for the worker called `consumer`."""
        return RedisSource(self._server, self._keys, queues, consumer)

    def size(self, queue: str) -> int:
        """Return how many messages wait in the queue's lists, or for their time."""
        lists = self._keys.lists(queue)
        counts = [("LLEN", one) for one in lists] + [("ZCARD", self._keys.delayed(one)) for one in lists]
        return sum(self._server.pipeline(counts))

    def purge(self, queue: str) -> int:
        """Delete what waits in the queue's lists, or for their time; messages being worked on stay."""
        keys = self._keys
        lists = keys.lists(queue)
        waiting = [*lists, *map(keys.delayed, lists)]
        counts = [("LLEN", one) for one in lists] + [("ZCARD", keys.delayed(one)) for one in lists]
        replies = self._server.pipeline(
            [("MULTI",), *counts, ("DEL", *waiting), ("SREM", keys.delayed_lists, *lists), ("EXEC",)]
        )
        return sum(replies[-1][: len(counts)])

    def remember_revoked(self, task_ids: Sequence[str]) -> None:
        """Keep the revocations; messages of few tasks that wait for their time become due."""
        revocations.remember(self._server, self._keys, task_ids)

    def revoked_since(self, moment: float) -> list[tuple[str, float]]:
        """Return the tasks revoked after `moment`, and when."""
        return revocations.since(self._server, self._keys, moment)

    def delayed(self, queues: Sequence[str], most: int) -> list[tuple[float, str, WireMessage]]:
        """Return messages that wait for their time, soonest first."""
        return delays.not_due(self._server, self._keys, queues, most)

    def replies(self, on_reply: Callable[[str, bytes], None]) -> RedisReplies:
        """Return the lists that carry results as messages."""
        return RedisReplies(on_reply, self._server, self._keys, self._publisher)

    def start_board_path(self, consumer: str) -> Path | None:
        """Return where workers of this user on this machine find the board."""
        return boards.path_of(consumer)

    def after_fork(self) -> None:
        """Forget the parent's connections."""
        self._server.after_fork()
        self._publisher.after_fork()

    def close(self) -> None:
        """Close idle connections."""
        self._publisher.close()
        self._server.close()
