"""Which acknowledgements are written: together where that is safe, and never for one that is still open."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from djqueue.core.messages import WireMessage
from djqueue.messaging.delivery import Delivery
from djqueue.messaging.transports.amqp.memory import Memory, key_of
from djqueue.messaging.transports.amqp.settling import Answers, Fate


def books(count: int) -> Answers:
    answers = Answers(None, "worker")  # type: ignore[arg-type]
    for number in range(1, count + 1):
        answers.opened(number)
    return answers


def test_what_follows_each_other_is_acknowledged_at_once() -> None:
    answers = books(5)
    assert answers.answers({1, 2, 3}, []) == [(3, True, False)]
    assert answers.answers({5}, []) == [(5, False, False)]
    assert answers.answers({4}, []) == [(4, True, False)]


def test_what_goes_back_goes_first() -> None:
    assert books(4).answers({1, 3}, [2]) == [(2, False, True), (3, True, False)]


@given(st.lists(st.sampled_from(["done", "back", "open"]), max_size=30), st.data())
def test_every_number_gets_its_own_answer_and_open_ones_none(fates: list[str], data: Any) -> None:
    answers = books(len(fates))
    told: dict[int, str] = {}
    numbers = list(range(1, len(fates) + 1))
    while numbers:
        some = data.draw(st.lists(st.sampled_from(numbers), min_size=1, unique=True))
        done = {number for number in some if fates[number - 1] == "done"}
        back = [number for number in some if fates[number - 1] == "back"]
        for number, multiple, requeue in answers.answers(done, back):
            meant = [one for one in range(1, number + 1) if one not in told] if multiple else [number]
            told.update(dict.fromkeys(meant, "back" if requeue else "done"))
        numbers = [number for number in numbers if number not in some]
    assert told == {number: fate for number, fate in enumerate(fates, 1) if fate != "open"}


def delivery() -> Delivery:
    return Delivery("1:0.0.id", "queue", WireMessage({}, {}, b""))


def test_what_is_due_in_a_moment_stays_here() -> None:
    assert Fate.of(delivery().delay(10.5), now=10.0) is Fate.KEPT
    assert Fate.of(delivery().delay(12.0), now=10.0) is Fate.COPIED
    assert Fate.of(delivery().release(), now=0.0) is Fate.BACK
    assert Fate.of(delivery().release(started=True), now=0.0) is Fate.COPIED


# Memory


def test_what_ended_shortly_before_a_break_is_not_run_again_and_only_once() -> None:
    memory = Memory(horizon=30.0)
    memory.note_end("old", 0.0)
    memory.note_end("new", 90.0)
    memory.note_break([], 100.0)
    assert not memory.has_ended("old")
    assert memory.has_ended("new")
    assert not memory.has_ended("new")


def test_an_early_acknowledgement_that_did_not_leave_lets_the_task_run_when_it_comes_back() -> None:
    memory = Memory(horizon=30.0)
    memory.note_late(delivery().ack(early=True), "early", 1.0)
    memory.note_late(delivery().ack(), "late", 1.0)
    assert not memory.has_ended("early")
    assert memory.has_ended("late")


def test_a_start_that_could_not_be_written_is_counted_when_the_message_comes_back() -> None:
    memory = Memory(horizon=30.0)
    memory.note_late(delivery().release(started=True), "key", 1.0)
    memory.note_late(delivery().release(started=True), "key", 2.0)
    assert (memory.owed("key"), memory.owed("key")) == (2, 0)


def test_a_key_names_an_attempt_and_fits_on_the_start_board() -> None:
    assert key_of({"id": "a", "retries": 2}, {}, 1) == "2.1.a"
    assert key_of({}, {"correlation_id": "c"}, 0) == "0.0.c"
    assert key_of({}, {}, 0) == ""
    assert key_of({"id": 5}, {}, 0) == ""
    for odd in ("x" * 300, "ü", "a\x00b"):
        key = key_of({"id": odd}, {}, 0)
        assert len(key) == 40
        assert key.isascii()
