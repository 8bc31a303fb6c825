"""Decisions of the autoscaler: grow at once, shrink after a while, never leave the bounds."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from djqueue.exceptions import ImproperlyConfigured
from djqueue.worker.autoscale import Autoscaler, autoscaler


@dataclass
class Sized:
    """A pool of which only the size counts."""

    size: int = 0
    changes: list[int] = field(default_factory=list)

    def grow(self, by: int) -> None:
        self.size += by
        self.changes.append(by)

    def shrink(self, by: int) -> None:
        self.size -= by
        self.changes.append(-by)


class Scene:
    """A pool, the work at hand, and what scales the one by the other."""

    def __init__(self, most: int, least: int, keepalive: float = 30.0) -> None:
        self.pool, self.work = Sized(least), 0
        self.scaler = Autoscaler(
            self.pool,  # type: ignore[arg-type]
            lambda: self.work,
            maximum=most,
            minimum=least,
            keepalive=keepalive,
        )
        self.now = time.monotonic()

    def comes_in(self, work: int) -> int:
        self.work = work
        self.scaler.work_came_in()
        return self.pool.size

    def later(self, seconds: float, work: int) -> int:
        self.work = work
        assert self.scaler.tick(self.now + seconds) > 0
        return self.pool.size


def test_it_grows_with_the_work_and_no_further_than_it_may() -> None:
    scene = Scene(5, 1)
    assert [scene.comes_in(work) for work in (1, 3, 4, 100)] == [1, 3, 4, 5]
    assert scene.pool.changes == [2, 1, 1]


def test_it_shrinks_when_nothing_came_in_for_a_while() -> None:
    scene = Scene(5, 1)
    scene.comes_in(5)
    assert [scene.later(seconds, 2) for seconds in (1, 29, 32)] == [5, 5, 2]
    assert scene.later(33, 0) == 1


def test_it_may_come_down_to_nothing_and_grow_from_there() -> None:
    scene = Scene(3, 0, keepalive=0.0)
    assert scene.comes_in(2) == 2
    assert scene.later(1, 0) == 0
    assert scene.later(2, 1) == 1


def test_other_bounds_hold_at_once() -> None:
    scene = Scene(5, 1)
    scene.comes_in(5)
    assert scene.scaler.update(maximum=3) == (3, 1)
    assert scene.pool.size == 3
    assert scene.scaler.update(6, 4) == (6, 4)
    assert scene.pool.size == 4
    assert scene.scaler.info() == {"max": 6, "min": 4, "current": 4, "qty": 5}


@pytest.mark.parametrize("bounds", [(0, 0), (2, 3), (5, -1)])
def test_bounds_that_are_none_change_nothing(bounds: tuple[int, int]) -> None:
    scene = Scene(5, 1)
    with pytest.raises(ValueError, match=f"at least {bounds[1]} and at most {bounds[0]}"):
        scene.scaler.update(*bounds)
    assert (scene.scaler.maximum, scene.scaler.minimum, scene.pool.changes) == (5, 1, [])


class Generous(Autoscaler):
    """Has one child more than is needed."""

    def wanted(self, in_hand: int) -> int:
        return in_hand + 1


def test_a_class_of_ones_own_decides_how_many_are_wanted(settings: Any) -> None:
    settings.DJQUEUE = {"WORKER_AUTOSCALER": f"{__name__}.Generous", "WORKER_AUTOSCALE_KEEPALIVE": 7}
    pool = Sized(1)
    made = autoscaler(pool, lambda: 2, (4, 1))  # type: ignore[arg-type]
    made.work_came_in()
    assert (pool.size, made.keepalive) == (3, 7)


def test_a_class_that_is_not_there_is_named(settings: Any) -> None:
    settings.DJQUEUE = {"WORKER_AUTOSCALER": "no.such.Scaler"}
    with pytest.raises(ImproperlyConfigured, match=r"no\.such\.Scaler"):
        autoscaler(Sized(), lambda: 0, (4, 1))  # type: ignore[arg-type]
