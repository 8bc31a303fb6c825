"""Quick jobs are spread, slow and unknown ones go to idle children only, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import pytest

from djqueue.worker.pools.contract import Job
from djqueue.worker.pools.prefork.dealing import deal
from tests.unit.worker.pools.samples import Child, job

MakeChildren = Callable[..., list[Child]]


@pytest.fixture
def children() -> Iterator[MakeChildren]:
    """Return a function that makes children; their lines are closed afterwards."""
    made: list[Child] = []

    def make(count: int, may_run: int | None = None) -> list[Child]:
        made.extend(Child(slot, may_run) for slot in range(count))
        return made

    yield make
    for child in made:
        child.close()


def dealt(waiting: deque[Job], children: list[Child]) -> dict[int, list[int]]:
    """Deal, and return the numbers of the jobs by slot."""
    hands = deal(waiting, [child.slot for child in children], now=1.0)
    return {child.slot: [job.number for job in jobs] for child, jobs in hands}


def test_each_idle_child_gets_one_unknown_job_and_the_rest_waits(children: MakeChildren) -> None:
    waiting = deque(job(number) for number in range(1, 6))
    assert dealt(waiting, children(3)) == {0: [1], 1: [2], 2: [3]}
    assert [left.number for left in waiting] == [4, 5]


def test_quick_jobs_are_spread_evenly(children: MakeChildren) -> None:
    waiting = deque(job(number, 0.001) for number in range(1, 9))
    hands = dealt(waiting, children(2))
    assert sorted(map(len, hands.values())) == [4, 4]
    assert not waiting


def test_no_child_gets_more_than_a_few_milliseconds_of_work(children: MakeChildren) -> None:
    waiting = deque(job(number, 0.005) for number in range(1, 20))
    assert {slot: len(jobs) for slot, jobs in dealt(waiting, children(2)).items()} == {0: 4, 1: 4}


def test_a_quick_job_is_not_put_behind_a_slow_one(children: MakeChildren) -> None:
    slow_then_quick = deque([job(1, 3.0), *(job(number, 0.001) for number in range(2, 30))])
    hands = dealt(slow_then_quick, children(2))
    assert hands[0] == [1]
    assert 2 in hands[1]


def test_jobs_keep_their_order_even_when_a_later_one_would_fit(children: MakeChildren) -> None:
    (child,) = children(1)
    waiting = deque([job(1, 0.001), job(2), job(3, 0.001)])
    assert dealt(waiting, [child]) == {0: [1]}
    assert [left.number for left in waiting] == [2, 3]


def test_a_child_gets_no_more_than_it_may_run(children: MakeChildren) -> None:
    waiting = deque(job(number, 0.0005) for number in range(1, 20))
    made = children(2, may_run=3)
    assert {slot: len(jobs) for slot, jobs in dealt(waiting, made).items()} == {0: 3, 1: 3}
    made[0].slot.drop(1)
    assert dealt(waiting, made) == {}


def test_what_comes_back_unstarted_may_be_run_instead_by_another(children: MakeChildren) -> None:
    (child,) = children(1, may_run=1)
    waiting = deque([job(1), job(2)])
    assert dealt(waiting, [child]) == {0: [1]}
    child.slot.drop(1, ran=False)
    assert dealt(waiting, [child]) == {0: [2]}


def test_children_that_are_stuck_leaving_or_not_ready_get_nothing(children: MakeChildren) -> None:
    stuck, leaving, starting, fine = children(4)
    stuck.slot.give(job(99, 0.001), 0.001, now=0.0)
    stuck.slot.stuck_on = 99
    leaving.slot.is_leaving = True
    starting.slot.is_ready = False
    waiting = deque(job(number, 0.001) for number in range(1, 5))
    assert dealt(waiting, [stuck, leaving, starting, fine]) == {3: [1, 2, 3, 4]}
