"""Ends are stored, sent and acknowledged together; a store that is away makes them wait, never vanish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from djqueue import states
from djqueue.core.messages import Destination, Outgoing, WireMessage
from djqueue.exceptions import BackendStoreError
from djqueue.messaging.contract import Source
from djqueue.messaging.delivery import Delivery, Settlement
from djqueue.result.chords import ChordCount, ChordOpening, ChordPart
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

    def add_queue(self, queue: str) -> None: ...

    def cancel_queue(self, queue: str) -> None: ...

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
        lambda messages, once: notes.append(("sent", len(messages))),
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


# Parts of chords


class CountingBackend(NotedBackend):
    """Counts chords of one part; `somebody_else` has all of them in hand."""

    counts_chords = True
    somebody_else = False

    def open_chords(self, openings: Sequence[ChordOpening]) -> None:
        self.notes.append(("opened", [one.group_id for one in openings]))

    def count_parts(self, parts: Sequence[ChordPart]) -> list[ChordCount]:
        self.notes.append(("counted", [part.task_id for part in parts]))
        return [ChordCount(part.group_id, None if self.somebody_else else [part]) for part in parts]

    def close_chords(self, group_ids: Sequence[str]) -> None:
        self.notes.append(("closed", list(group_ids)))


def end_of_part(made: Settler, tag: str, group_id: str) -> None:
    delivery = Delivery(tag, "default", WireMessage({"id": tag}, {}, b""))
    body = {"task": "elsewhere.body", "args": [], "kwargs": {}, "options": {"task_id": "body", "queue": "q"}}
    part = ChordPart(group_id, tag, 0, states.SUCCESS, "1", "application/json", "utf-8", body)
    outcome = Outcome(states.SUCCESS, Document(tag, states.SUCCESS), parts=[part])
    made.add(delivery.ack(), outcome)


def counting() -> tuple[Settler, CountingBackend, list[Any]]:
    notes: list[Any] = []
    backend = CountingBackend(notes)

    def publish(messages: Sequence[Outgoing], once: str | None) -> None:
        notes.append(("sent", [one.message.headers.get("id") for one in messages], once))

    return Settler(NotedSource(notes), backend, publish, lambda delivery: None), backend, notes


def test_a_part_is_counted_and_the_body_sent_before_it_is_acknowledged() -> None:
    made, _, notes = counting()
    end_of_part(made, "1", "g")
    end(made, "2")
    assert made.settle(now=0.0)
    assert notes == [
        ("stored", ["1", "2"]),
        ("sent", [None], None),
        ("counted", ["1"]),
        ("sent", ["body"], "chord:g"),
        ("closed", ["g"]),
        ("settled", ["2", "1"]),
    ]


def test_a_part_is_held_while_somebody_else_completes_its_chord() -> None:
    made, backend, notes = counting()
    backend.somebody_else = True
    end_of_part(made, "1", "g")
    end(made, "2")
    assert made.settle(now=100.0)
    assert notes[-1] == ("settled", ["2"])
    assert len(made) == 1
    assert made.seconds_to_next(100.0) == Settler.ASK_AGAIN
    notes.clear()
    assert not made.settle(now=100.5)
    assert notes == []
    assert made.settle(now=101.0)
    assert notes == [("counted", ["1"])]
    backend.somebody_else = False
    notes.clear()
    assert made.settle(now=103.0)
    assert notes[-2:] == [("closed", ["g"]), ("settled", ["1"])]
    assert len(made) == 0


def test_a_body_that_cannot_be_used_holds_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    made, _, notes = counting()
    delivery = Delivery("1", "default", WireMessage({"id": "1"}, {}, b""))
    part = ChordPart("g", "1", 0, states.SUCCESS, "1", "application/json", "utf-8", {"task": 5, "kwargs": 7})
    made.add(delivery.ack(), Outcome(states.SUCCESS, parts=[part]))
    assert made.settle(now=0.0)
    assert notes[-2:] == [("closed", ["g"]), ("settled", ["1"])]
    assert "djq.chord.failed group=g" in caplog.text
