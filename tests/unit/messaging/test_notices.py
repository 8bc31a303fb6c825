"""When a sender on PostgreSQL rings: at once now and then, seldom in a stream."""

from __future__ import annotations

import itertools

from djqueue.messaging.transports.database.keeper import RELOOKS
from djqueue.messaging.transports.database.postgresql import LONGEST_QUIET, QUIET, PostgreSQL


def rings(*moments: float) -> list[float]:
    """Return those of the moments at which a message is rung for."""
    vendor = PostgreSQL("default")
    return [moment for moment in moments if vendor._may_notify("default", moment)]


def test_whoever_sends_now_and_then_rings_every_time() -> None:
    moments = [number * (QUIET + 0.001) for number in range(100)]
    assert rings(*moments) == moments


def test_a_stream_rings_ever_more_seldom() -> None:
    moments = [number / 2000 for number in range(2000)]  # a second
    rung = rings(*moments)
    assert len(rung) <= 1 / LONGEST_QUIET + 5
    gaps = [later - earlier for earlier, later in itertools.pairwise(rung)]
    assert gaps[:3] == sorted(gaps[:3])
    assert max(gaps) <= LONGEST_QUIET + 0.001


def test_after_a_stream_and_a_pause_it_rings_at_once() -> None:
    moments = [*(number / 2000 for number in range(2000)), 2.0, 2.1, 2.2]
    assert rings(*moments)[-3:] == [2.0, 2.1, 2.2]


def test_each_queue_rings_for_itself() -> None:
    vendor = PostgreSQL("default")
    assert [vendor._may_notify(queue, 0.0) for queue in ("one", "two", "one")] == [True, True, False]


def test_receivers_look_again_after_the_longest_time_that_a_sender_does_not_ring() -> None:
    assert RELOOKS[0] > QUIET
    assert RELOOKS[-1] > LONGEST_QUIET
