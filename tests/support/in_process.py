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
from djqueue.result.chords import ChordCount, ChordOpening, ChordPart
from djqueue.result.contract import ResultBackend
from djqueue.result.documents import Document
from djqueue.tasks.execution import perform
from djqueue.tasks.outcome import Outcome
from djqueue.worker.settlement import Settler

NODE = "worker@test"
STORE = "tests.support.in_process.DictStore"


class DictStore(ResultBackend):
    """Keeps documents in a dictionary; chords as well, unless a test lets it be asked again and again."""

    counts_chords = True

    def __init__(self, url: str = "", **options: Any) -> None:
        super().__init__(url, **options)
        self.documents: dict[str, Document] = {}
        self.groups: dict[str, Any] = {}
        self.openings: dict[str, ChordOpening] = {}
        self.added: dict[str, set[str]] = {}
        self.parts: dict[str, dict[str, ChordPart]] = {}
        self.was_forked = self.was_closed = False

    def save_group(self, group_id: str, members: Any) -> None:
        """Keep the group."""
        self.groups[group_id] = members

    def restore_group(self, group_id: str) -> Any:
        """Return the group, or None."""
        return self.groups.get(group_id)

    def delete_group(self, group_id: str) -> None:
        """Forget the group."""
        self.groups.pop(group_id, None)

    def open_chords(self, openings: Sequence[ChordOpening]) -> None:
        """Keep what is to be known of them."""
        for one in openings:
            if one.added is None:
                self.openings[one.group_id] = one
            else:
                self.added.setdefault(one.group_id, set()).add(one.added)

    def count_parts(self, parts: Sequence[ChordPart]) -> list[ChordCount]:
        """Keep them by their keys; return the chords that are complete."""
        for part in parts:
            self.parts.setdefault(part.group_id, {})[part.key] = part
        return [
            ChordCount(group_id, sorted(self.parts[group_id].values(), key=place_of), opening.members)
            for group_id in {part.group_id: None for part in parts}
            if (opening := self.openings.get(group_id))
            and len(self.parts[group_id]) >= opening.size + len(self.added.get(group_id, ()))
        ]

    def close_chords(self, group_ids: Sequence[str]) -> None:
        """Forget them."""
        for group_id in group_ids:
            del self.openings[group_id]

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
        settler = Settler(self._source, backends.backend(), publisher.publish, lambda lost: None)
        settler.add(delivery.ack(), outcome)
        assert settler.settle(0.0), "the store or the broker raised"
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


def place_of(part: ChordPart) -> float:
    """Return where the part stands in its header."""
    return float("inf") if part.index is None else part.index


def rerun(outgoing: Outgoing) -> Outcome:
    """Run a message that follows a task, whatever its eta says, without settling anything."""
    place = outgoing.destination
    info = {"exchange": place.exchange, "routing_key": place.routing_key, "queue": place.queue}
    return perform(outgoing.message, delivery_info=info, worker=NODE, report=lambda document: None)
