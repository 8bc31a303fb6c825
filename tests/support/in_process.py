"""A worker's work without a worker: messages from the memory broker, performed here, results kept in a dict.

Tests come in with what was sent; outcomes leave. The store is the smallest one that keeps the contract, and
`perform` is the real one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from djqueue import states
from djqueue.core.messages import Outgoing
from djqueue.messaging import brokers, publisher
from djqueue.messaging.delivery import Delivery
from djqueue.result import backends
from djqueue.result.contract import ResultBackend
from djqueue.result.documents import Document
from djqueue.tasks.execution import perform
from djqueue.tasks.outcome import Outcome

NODE = "worker@test"
STORE = "tests.support.in_process.DictStore"


class DictStore(ResultBackend):
    """Keeps documents in a dictionary."""

    def __init__(self, url: str = "", **options: Any) -> None:
        super().__init__(url, **options)
        self.documents: dict[str, Document] = {}
        self.was_forked = self.was_closed = False

    def store_many(self, documents: Sequence[Document]) -> None:
        """Keep the documents that are not older than what is kept."""
        for document in documents:
            kept = self.documents.get(document.task_id)
            is_final = kept is not None and kept.status in states.READY_STATES
            if kept is None or document.attempt > kept.attempt or not is_final:
                self.documents[document.task_id] = document

    def fetch_many(self, task_ids: Sequence[str]) -> Mapping[str, Document]:
        """Return what is kept."""
        return {task_id: self.documents[task_id] for task_id in task_ids if task_id in self.documents}

    def forget_many(self, task_ids: Sequence[str]) -> None:
        """Delete the documents."""
        for task_id in task_ids:
            self.documents.pop(task_id, None)

    def clean_up(self) -> int:
        """Delete everything, and return how many documents that were."""
        count = len(self.documents)
        self.documents.clear()
        return count

    def close(self) -> None:
        """Remember it."""
        self.was_closed = True

    def after_fork(self) -> None:
        """Remember it."""
        self.was_forked = True


class Inbox:
    """What waits in queues of the memory broker, and a place to run it."""

    def __init__(self, *queues: str) -> None:
        self._source = brokers.broker().source(queues or ("default",), "inbox")
        self.reported: list[Document] = []

    def receive(self) -> list[Delivery]:
        """Return everything that is due."""
        return self._source.receive(1000)

    def next(self) -> Delivery:
        """Return the only message that is due."""
        (delivery,) = self.receive()
        return delivery

    def run(self, delivery: Delivery | None = None) -> Outcome:
        """Run one message as a worker's child does; store, publish and settle as its parent does."""
        delivery = self.next() if delivery is None else delivery
        outcome = perform(
            delivery.message,
            delivery_info=delivery.delivery_info(),
            starts=delivery.starts,
            worker=NODE,
            report=self._report,
        )
        outcome = Outcome.unpack(outcome.pack())
        documents = [outcome.document, *outcome.never_run]
        backends.backend().store_many([document for document in documents if document is not None])
        if outcome.follow_ups:
            publisher.publish(outcome.follow_ups)
        self._source.settle([delivery.ack()])
        return outcome

    def run_all(self) -> list[Outcome]:
        """Run what is due, and what follows, until nothing is left."""
        outcomes: list[Outcome] = []
        while deliveries := self.receive():
            outcomes.extend(self.run(delivery) for delivery in deliveries)
        return outcomes

    def _report(self, document: Document) -> None:
        self.reported.append(document)
        backends.backend().store_many([document])


def rerun(outgoing: Outgoing) -> Outcome:
    """Run a message that follows a task, whatever its eta says, without settling anything."""
    place = outgoing.destination
    info = {"exchange": place.exchange, "routing_key": place.routing_key, "queue": place.queue}
    return perform(outgoing.message, delivery_info=info, worker=NODE, report=lambda document: None)
