"""The RabbitMQ broker: what a process has of it, apart from receiving.

A URL and settings come in; messages go out through `publishing`, sources are made for workers. What RabbitMQ
cannot keep so that it can be looked up (dead letters, revocations) is kept in the project's database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from djqueue.conf import settings
from djqueue.core.messages import Outgoing
from djqueue.core.retrying import ONCE, PublishPolicy
from djqueue.messaging.contract import Broker, Capabilities
from djqueue.messaging.tables import revocations
from djqueue.messaging.transports.amqp import graves, topology
from djqueue.messaging.transports.amqp.publishing import Publisher
from djqueue.messaging.transports.amqp.server import Server
from djqueue.messaging.transports.amqp.source import AmqpSource
from djqueue.messaging.transports.amqp.wire import errors_of


class AmqpBroker(Broker):
    """Messages are in RabbitMQ's queues; RabbitMQ takes back what a dead worker held."""

    capabilities = Capabilities(delays=True, counts_starts=True, keeps_dead_letters=True, fences=True)

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(url)
        self._server = Server(url, settings.BROKER_TRANSPORT_OPTIONS if options is None else options)
        self._publisher = Publisher(self._server)
        self.kombu_arguments = {
            "ssl": self._server.ssl,
            "login_method": settings.BROKER_LOGIN_METHOD,
            "failover_strategy": settings.BROKER_FAILOVER_STRATEGY,
        }

    def __repr__(self) -> str:
        return repr(self._server)

    def send_many(self, outgoing: Sequence[Outgoing]) -> None:
        """Send the messages; what is not due yet goes through RabbitMQ's delays."""
        self.send_patiently(outgoing, ONCE)

    def send_patiently(self, outgoing: Sequence[Outgoing], policy: PublishPolicy) -> None:
        """Send, and try again as the policy says; only what was not confirmed is sent again."""
        if outgoing:
            self._publisher.send_many(outgoing, policy)

    def source(self, queues: Sequence[str], consumer: str) -> AmqpSource:
        """Return a source for the worker called `consumer`."""
        return AmqpSource(self._server, self._publisher, queues, consumer)

    def size(self, queue: str) -> int:
        """Return how many messages are ready in the queue; RabbitMQ does not tell those that are delayed."""
        wire = self._server.connect()
        with errors_of(wire):
            count = topology.exists(wire, queue)
        wire.leave()
        return count or 0

    def purge(self, queue: str) -> int:
        """Delete what is ready in the queue; messages that workers hold stay, and so do delayed ones."""
        wire = self._server.connect()
        with errors_of(wire):
            is_there = topology.exists(wire, queue) is not None
            count = int(wire.channel().queue_purge(queue)) if is_there else 0
        wire.leave()
        return count

    def remember_revoked(self, task_ids: Sequence[str]) -> None:
        """Keep the revocations in the database; a delayed task ends when it is due."""
        revocations.keep(task_ids)

    def revoked_since(self, moment: float) -> list[tuple[str, float]]:
        """Return the tasks revoked after `moment`, and when."""
        return revocations.kept_since(moment)

    def start_board_path(self, consumer: str) -> Path | None:
        """Return where workers of this user on this machine find the board."""
        return graves.path_of(consumer)

    def after_fork(self) -> None:
        """Forget the parent's connections."""
        self._publisher.after_fork()

    def close(self) -> None:
        """Close idle connections."""
        self._publisher.close()
