"""How many jobs lie ready follows what is known of their run times."""

from __future__ import annotations

import pytest

from djqueue.worker.pools import pacing
from tests.unit.worker.pools.samples import job


@pytest.mark.parametrize(
    ("expected", "room"),
    [(0.0, 1), (2.0, 1), (0.02, 1), (0.009, 2), (0.004, 5), (0.001, 20), (0.0002, 100), (1e-9, 192)],
)
def test_an_idle_child_gets_a_few_milliseconds_of_work(expected: float, room: int) -> None:
    pace = pacing.Pace()
    pace.note([pacing.cost(job(1, expected))])
    assert pace.room(0, 0.0) == room


def test_nothing_is_known_at_first() -> None:
    assert pacing.Pace().room(0, 0.0) == 1
    assert pacing.Pace().room(1, 0.0) == 0


def test_one_slow_job_among_the_last_makes_the_next_batch_small() -> None:
    pace = pacing.Pace()
    pace.note([0.001, 0.001, 1.0])
    assert pace.room(0, 0.0) == 1


def test_what_a_child_holds_already_counts() -> None:
    pace = pacing.Pace()
    pace.note([0.001])
    assert pace.room(10, 0.010) == 10
    assert pace.room(20, 0.020) == 0
    assert pace.room(1, 1.0) == 0


def test_submitting_nothing_teaches_nothing() -> None:
    pace = pacing.Pace()
    pace.note([0.001])
    pace.note([])
    assert pace.seconds == 0.001
