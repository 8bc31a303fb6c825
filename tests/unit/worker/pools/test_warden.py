"""The warden kills, interrupts and frees by the clock, and says when it has to look again."""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from djqueue.messaging.startboard import StartBoard
from djqueue.worker.pools import pacing
from djqueue.worker.pools.prefork import frames
from djqueue.worker.pools.prefork.child import LOOK
from djqueue.worker.pools.prefork.slots import Sentence
from djqueue.worker.pools.prefork.warden import Warden
from tests.unit.worker.pools.samples import Child, Nursery, job


@dataclass
class Watched:
    """A warden with one child, at a time of our choosing."""

    child: Child = field(default_factory=Child)
    nursery: Nursery = field(default_factory=Nursery)
    board: StartBoard = field(default_factory=lambda: StartBoard.create(None, 2))

    def __post_init__(self) -> None:
        self.warden = Warden(self.board, self.nursery)  # type: ignore[arg-type]  # all it uses of a nursery

    def give(self, number: int, expected: float = 0.0, **limits: Any) -> None:
        given = job(number, expected, **limits)
        self.child.slot.give(given, pacing.cost(given), now=100.0)

    def start(self, number: int, at: float = 100.0) -> None:
        self.board.start(0, number, b"tag", at)

    def look(self, now: float, *, idle: bool = False) -> float:
        return self.warden.look_after(self.child.slot, now, is_anyone_idle=idle)

    @property
    def signals(self) -> list[int]:
        return [signum for _, signum in self.nursery.sent]


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    watched.child.close()
    watched.board.close()


def test_an_idle_child_needs_no_look(watched: Watched) -> None:
    assert watched.look(100.0) == math.inf


def test_a_slow_job_without_limits_needs_no_look(watched: Watched) -> None:
    watched.give(1, 5.0)
    watched.start(1)
    assert watched.look(100.001) == math.inf


def test_the_next_look_is_when_the_first_limit_is_reached(watched: Watched) -> None:
    watched.give(1, soft_limit=5.0, hard_limit=8.0)
    watched.start(1)
    assert watched.look(101.0) == pytest.approx(4.0)


def test_a_job_that_may_be_about_to_start_is_looked_at_soon_enough(watched: Watched) -> None:
    watched.give(1, soft_limit=0.015)
    assert watched.look(100.0) == pytest.approx(0.015)
    watched.give(2, hard_limit=0.3)
    assert watched.look(101.0) == pytest.approx(0.015)


def test_a_child_that_starts_nothing_is_not_looked_at_all_the_time(watched: Watched) -> None:
    watched.give(1)
    assert watched.look(100.1) < 0.1
    assert watched.look(110.0) == 0.5


def test_the_hard_limit_kills_once(watched: Watched) -> None:
    watched.give(1, hard_limit=2.0)
    watched.start(1)
    assert watched.look(101.9) == pytest.approx(0.1)
    watched.look(102.0)
    watched.look(102.1)
    assert watched.signals == [signal.SIGKILL]
    assert watched.child.slot.executed == Sentence(1, "its time limit of 2 s was over", 2.0)


def test_the_soft_limit_is_told_once_and_signalled_with_growing_patience(watched: Watched) -> None:
    watched.give(1, soft_limit=2.0)
    watched.start(1)
    now = 102.0
    pauses = []
    for _ in range(7):
        pause = watched.look(now)
        pauses.append(round(pause, 3))
        now += pause
    assert watched.child.heard() == [(frames.INTERRUPT, 1)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert watched.signals == [LOOK] * 7


def test_a_job_that_was_interrupted_is_left_alone(watched: Watched) -> None:
    watched.give(1, soft_limit=2.0, hard_limit=5.0)
    watched.start(1)
    watched.child.slot.interrupted = 1
    assert watched.look(103.0) == pytest.approx(2.0)
    assert watched.signals == []


def test_jobs_stuck_behind_a_long_one_are_asked_back_when_a_child_is_free(watched: Watched) -> None:
    for number in (1, 2, 3):
        watched.give(number, 0.001)
    watched.start(1)
    assert watched.look(100.005, idle=True) == pytest.approx(0.015)
    assert watched.look(100.021) == math.inf  # nobody else could take them
    assert watched.child.slot.is_stuck
    assert watched.child.heard() == []
    watched.look(100.022, idle=True)
    watched.look(100.023, idle=True)
    assert watched.child.heard() == [(frames.TAKE_BACK, None)]
    assert watched.signals == [LOOK]


def test_a_job_may_take_a_few_times_as_long_as_expected(watched: Watched) -> None:
    watched.give(1, 0.009)
    watched.give(2, 0.009)
    watched.start(1)
    assert watched.look(100.030, idle=True) == pytest.approx(0.006)
    assert not watched.child.slot.is_stuck


def test_finished_jobs_behind_which_a_long_one_runs_are_asked_for(watched: Watched) -> None:
    for number in (1, 2):
        watched.give(number, 0.001)
    watched.start(2)  # so 1 has ended, and its outcome is with the child
    watched.look(100.021)
    assert watched.signals == [LOOK]
    assert watched.child.heard() == []


def test_a_child_is_stuck_no_more_when_the_long_job_ends(watched: Watched) -> None:
    watched.give(1, 0.001)
    watched.start(1)
    watched.look(100.1)
    assert watched.child.slot.is_stuck
    watched.child.slot.drop(1)
    assert not watched.child.slot.is_stuck


def test_what_the_board_says_is_not_believed_when_it_cannot_be(watched: Watched) -> None:
    watched.give(1, hard_limit=2.0)
    watched.start(1, at=0.0)  # half written: it cannot have started before it was sent
    watched.look(110.0)
    watched.start(7, at=100.0)  # a job that this child does not hold
    watched.look(110.0)
    assert watched.signals == []


def test_a_condemned_job_is_killed_when_it_turns_out_to_run(watched: Watched) -> None:
    watched.give(1)
    watched.child.slot.condemned[1] = Sentence(1, "it was revoked")
    watched.look(100.01)
    assert watched.signals == []
    watched.start(1)
    watched.look(100.02)
    assert watched.signals == [signal.SIGKILL]


@pytest.mark.parametrize(("way", "patience"), [("hung up", 0.5), ("leaving", 10.0)])
def test_a_child_that_should_be_gone_is_killed(watched: Watched, way: str, patience: float) -> None:
    if way == "leaving":
        watched.child.slot.is_leaving = True
    else:
        watched.child.slot.line.close()
    assert watched.look(100.0) == patience
    assert watched.signals == []
    watched.look(100.0 + patience)
    assert watched.signals == [signal.SIGKILL]


def test_a_child_that_takes_long_to_come_up_is_told_of_once(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.child.slot.is_ready = False
    watched.child.slot.born = 100.0
    assert watched.look(101.0) == pytest.approx(9.0)
    with caplog.at_level(logging.WARNING):
        watched.look(110.0)
        assert watched.look(120.0) == math.inf
    assert caplog.text.count("djq.child.late pid=1000") == 1
