"""The waiting room lets entries go in the order of their times, first come first served among equals."""

from __future__ import annotations

from djqueue.core.messages import WireMessage
from djqueue.core.requests import Request
from djqueue.messaging.delivery import Delivery
from djqueue.worker.ledger import Entry, Ledger
from djqueue.worker.waiting_room import WaitingRoom


def entries(count: int) -> list[Entry]:
    ledger = Ledger()
    return [
        ledger.open(Delivery(str(number), "default", WireMessage({}, {}, b"")), Request(id=str(number)))
        for number in range(count)
    ]


def test_entries_go_when_their_time_has_come_and_not_before() -> None:
    room = WaitingRoom()
    late, soon = entries(2)
    room.put(late, until=20.0)
    room.put(soon, until=10.0)
    assert room.seconds_to_next(4.0) == 6.0
    assert room.ready(9.9, most=5) == []
    assert room.ready(10.0, most=5) == [soon]
    assert room.ready(30.0, most=5) == [late]
    assert room.seconds_to_next(30.0) == float("inf")


def test_equal_times_keep_their_order_and_no_more_than_asked_go() -> None:
    room = WaitingRoom()
    first, second, third = entries(3)
    for entry in (first, second, third):
        room.put(entry, until=1.0)
    assert room.ready(1.0, most=2) == [first, second]
    assert len(room) == 1
    assert room.empty() == [third]
    assert len(room) == 0


def test_entries_are_shown_and_taken_out_before_their_time() -> None:
    room = WaitingRoom()
    first, second, third = entries(3)
    for until, entry in ((3.0, first), (1.0, second), (2.0, third)):
        room.put(entry, until)
    assert room.entries() == [(1.0, second), (2.0, third), (3.0, first)]
    assert room.take_out(lambda entry: entry is not third) == [second, first]
    assert room.take_out(lambda entry: entry is first) == []
    assert room.empty() == [third]
