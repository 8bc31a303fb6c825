"""Ends are stored, sent and acknowledged together; a store that is away makes them wait, never vanish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from djqueue import states
from djqueue.core.messages import Destination, Outgoing, WireMessage
from djqueue.exceptions import BackendStoreError
from djqueue.messaging.contract import Source
from djqueue.messaging.delivery import Delivery, Settlement
from djqueue.result.contract import ResultBackend
from djqueue.result.documents import Document
from djqueue.tasks.outcome import Outcome
from djqueue.worker.settlement import Settler


class NotedSource(Source):
    """Notes what it is asked to settle; `foreign` deliveries are no longer ours."""

    def __init__(self, notes: list[Any]) -> None:
        self.notes = notes
        self.foreign: list[Delivery] = []

    def open(self, watch: Any, wake: Callable[[], None]) -> None: ...

    def receive(self, room: int) -> list[Delivery]:
        return []

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        self.notes.append(("settled", [one.delivery.tag for one in settlements]))
        return self.foreign

    def tend(self, now: float) -> float:
        return 1.0

    def close(self) -> None: ...


class NotedBackend(ResultBackend):
    """Notes what it is asked to store; can be away."""

    def __init__(self, notes: list[Any]) -> None:
        super().__init__()
        self.notes = notes
        self.is_away = False

    def store_many(self, documents: Sequence[Document]) -> None:
        if self.is_away:
            raise BackendStoreError("the disk is full")
        self.notes.append(("stored", [one.task_id for one in documents]))

    def fetch_many(self, task_ids: Sequence[str]) -> dict[str, Document]:
        return {}

    def forget_many(self, task_ids: Sequence[str]) -> None: ...

    def clean_up(self) -> int:
        return 0


def settler() -> tuple[Settler, NotedSource, NotedBackend, list[Any]]:
    notes: list[Any] = []
    source, backend = NotedSource(notes), NotedBackend(notes)
    made = Settler(
        source,
        backend,
        lambda messages: notes.append(("sent", len(messages))),
        lambda delivery: notes.append(("lost", delivery.tag)),
    )
    return made, source, backend, notes


def end(made: Settler, tag: str) -> Delivery:
    delivery = Delivery(tag, "default", WireMessage({"id": tag}, {}, b""))
    follow_up = Outgoing(WireMessage({}, {}, b""), Destination("", "default"))
    made.add(delivery.ack(), Outcome(states.SUCCESS, Document(tag, states.SUCCESS), [follow_up]))
    return delivery


def test_many_ends_are_stored_then_sent_then_acknowledged_at_once() -> None:
    made, _, _, notes = settler()
    end(made, "1")
    end(made, "2")
    assert made.settle(now=0.0)
    assert notes == [("stored", ["1", "2"]), ("sent", 2), ("settled", ["1", "2"])]
    assert len(made) == 0


def test_nothing_is_acknowledged_while_the_store_is_away_and_everything_after() -> None:
    made, _, backend, notes = settler()
    end(made, "1")
    backend.is_away = True
    assert not made.settle(now=0.0)
    assert notes == []
    assert 0 < made.seconds_to_next(0.0) <= 5.0
    backend.is_away = False
    assert not made.settle(now=0.0), "tried before its pause was over"
    assert made.settle(now=10.0)
    assert notes == [("stored", ["1"]), ("sent", 1), ("settled", ["1"])]


def test_a_delivery_that_was_taken_over_meanwhile_is_told() -> None:
    made, source, _, notes = settler()
    source.foreign = [end(made, "1")]
    made.settle(now=0.0)
    assert notes[-1] == ("lost", "1")


def test_it_is_full_when_a_store_stays_away_for_long() -> None:
    made, _, backend, _ = settler()
    backend.is_away = True
    for number in range(Settler.MOST_WAITING // 2):
        end(made, str(number))
    assert made.is_full
