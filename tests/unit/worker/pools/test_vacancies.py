"""Missing children are asked for once, at once, and with more and more patience when they do not come up."""

from __future__ import annotations

import math

from djqueue.worker.pools.prefork.vacancies import Vacancies


def test_an_open_slot_is_due_at_once_and_only_once() -> None:
    vacancies = Vacancies()
    vacancies.open(3)
    assert vacancies.due(now=100.0) == [3]
    assert vacancies.due(now=100.0) == []
    assert vacancies.seconds_to_next(now=100.0) == math.inf


def test_the_pause_doubles_up_to_ten_seconds() -> None:
    vacancies = Vacancies()
    pauses = [vacancies.open_later(0, now=0.0) for _ in range(10)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0]
    assert vacancies.due(now=9.9) == []
    assert vacancies.seconds_to_next(now=9.0) == 1.0
    assert vacancies.due(now=10.0) == [0]


def test_a_child_that_came_up_is_forgiven_its_forerunners() -> None:
    vacancies = Vacancies()
    for _ in range(5):
        vacancies.open_later(0, now=0.0)
    vacancies.open_later(1, now=0.0)
    vacancies.forgive(0)
    assert vacancies.open_later(0, now=0.0) == 0.1
    assert vacancies.open_later(1, now=0.0) == 0.2
