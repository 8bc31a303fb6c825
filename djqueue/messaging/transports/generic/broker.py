"""Sending through kombu: any broker that it has a transport for.

A URL and BROKER_TRANSPORT_OPTIONS come in and are passed on to kombu as they are. Connections come from a
pool of BROKER_POOL_LIMIT; queues are declared before the first message. Dead letters and revocations have
their place in the project's database.
"""

# kombu is typed in part.
# mypy: disable-error-code="no-untyped-call,no-any-return"

from __future__ import annotations

import logging
from collections.abc import Sequence

from kombu.common import maybe_declare

from djqueue.core.messages import Outgoing
from djqueue.messaging import brokers
from djqueue.messaging.contract import Broker, Capabilities, Problem
from djqueue.messaging.tables import revocations
from djqueue.messaging.transports.generic.link import PATIENCE, Link
from djqueue.messaging.transports.generic.source import GenericSource


class GenericBroker(Broker):
    """A broker behind one of kombu's transports."""

    kombu_defaults = PATIENCE

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._link = Link(url)
        self.capabilities = Capabilities(
            keeps_dead_letters=True,
            redelivers=self._link.traits.redelivers,
            keeps_order=self._link.traits.keeps_order,
            exchanges=self._link.exchanges,
        )

    def send_many(self, outgoing: Sequence[Outgoing]) -> None:
        """Publish the messages one after the other; those before one that fails have been sent.

        What is due later is sent at once: the worker that receives it holds it.
        """
        if not outgoing:
            return
        with self._link.channel() as channel:
            for one in outgoing:
                self._link.publish(channel, one)

    def source(self, queues: Sequence[str], consumer: str) -> GenericSource:
        """Return a source for the worker called `consumer`."""
        return GenericSource(self._link, queues, consumer)

    def size(self, queue: str) -> int:
        """Return how many messages wait in `queue`, as the broker counts them."""
        with self._link.channel() as channel:
            maybe_declare(brokers.queues().get(queue)(channel))
            return int(channel.queue_declare(queue, passive=True).message_count)

    def purge(self, queue: str) -> int:
        """Delete what waits in `queue`, and return how many messages that were."""
        with self._link.channel() as channel:
            maybe_declare(brokers.queues().get(queue)(channel))
            # Asked before: some transports do not know what they deleted.
            waiting = int(channel.queue_declare(queue, passive=True).message_count)
            channel.queue_purge(queue)
            return waiting

    def remember_revoked(self, task_ids: Sequence[str]) -> None:
        """Keep the revocations in the project's database."""
        revocations.keep(task_ids)

    def revoked_since(self, moment: float) -> list[tuple[str, float]]:
        """Return the tasks revoked after `moment`, and when."""
        return revocations.kept_since(moment)

    def problems(self) -> list[Problem]:
        """Name what this broker cannot do."""
        cannot = ["keep delayed tasks (workers hold them in memory)"]
        if not self._link.traits.keeps_order:
            cannot.append("keep the order of messages")
        if not self._link.traits.has_priorities:
            cannot.append("let priorities go first")
        if "fanout" not in self.capabilities.exchanges:
            cannot.append("reach all workers (remote control, events and broadcasts are off)")
        cannot.append("refuse the late answer of a worker that was taken for dead")
        found = [
            Problem(
                "broker_limits",
                logging.INFO,
                f"The broker {self!r} cannot {'; '.join(cannot)}.",
                "docs/explanation/choosing-a-broker.md tells what each broker promises.",
            )
        ]
        if not self._link.traits.redelivers:
            found.append(
                Problem(
                    "broker_loses",
                    logging.WARNING,
                    f"The broker {self!r} forgets a message as soon as it is handed out: what a worker that "
                    "is killed had in hand is lost.",
                    "Use django://, redis:// or amqp:// for tasks that must not be lost.",
                )
            )
        return found

    def after_fork(self) -> None:
        """Forget the parent's connections."""
        self._link.forget()

    def close(self) -> None:
        """Close idle connections."""
        self._link.close()
