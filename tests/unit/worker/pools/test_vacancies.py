"""Missing children are asked for once, at once, and with more and more patience when they do not come up."""

from __future__ import annotations

import math

import pytest

from djqueue.worker.pools.prefork.vacancies import Vacancies


@pytest.fixture
def vacancies() -> Vacancies:
    """Two children are wanted and were made, on a board of four slots."""
    made = Vacancies(4)
    made.want(2, taken=())
    for slot in made.due(now=0.0):
        assert made.filled(slot)
    return made


def test_an_open_slot_is_due_at_once_and_only_once(vacancies: Vacancies) -> None:
    vacancies.open(1)
    assert vacancies.due(now=100.0) == [1]
    assert vacancies.due(now=100.0) == []
    assert vacancies.seconds_to_next(now=100.0) == math.inf


def test_the_pause_doubles_up_to_ten_seconds(vacancies: Vacancies) -> None:
    pauses = [vacancies.open_later(0, now=0.0) for _ in range(10)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0]
    assert vacancies.due(now=9.9) == []
    assert vacancies.seconds_to_next(now=9.0) == 1.0
    assert vacancies.due(now=10.0) == [0]


def test_a_child_that_came_up_is_forgiven_its_forerunners(vacancies: Vacancies) -> None:
    for _ in range(5):
        vacancies.open_later(0, now=0.0)
    vacancies.open_later(1, now=0.0)
    vacancies.forgive(0)
    assert vacancies.open_later(0, now=0.0) == 0.1
    assert vacancies.open_later(1, now=0.0) == 0.2


def test_more_are_wanted_in_slots_that_nobody_uses(vacancies: Vacancies) -> None:
    vacancies.want(1, taken=(2,))
    assert vacancies.due(now=0.0) == [3]
    with pytest.raises(ValueError, match="has 3 children and room for 0 more; it cannot grow by 1"):
        vacancies.want(1, taken=(2,))


def test_nobody_is_asked_for_where_none_is_wanted(vacancies: Vacancies) -> None:
    vacancies.unwant(1)
    vacancies.open(1)
    assert vacancies.open_later(1, now=0.0) == 0.0
    assert vacancies.due(now=100.0) == []


def test_one_that_is_on_the_way_is_not_asked_for_twice(vacancies: Vacancies) -> None:
    vacancies.want(1, taken=())
    (slot,) = vacancies.due(now=0.0)
    vacancies.unwant(slot)
    vacancies.want(1, taken=())
    assert vacancies.due(now=0.0) == []
    assert vacancies.filled(slot)
    vacancies.unwant(slot)
    vacancies.want(1, taken=(slot,))
    assert vacancies.due(now=0.0) != [slot]


def test_one_that_is_on_the_way_may_be_out_of_date(vacancies: Vacancies) -> None:
    vacancies.open(0)
    vacancies.due(now=0.0)
    vacancies.recall()
    assert not vacancies.filled(0)
    vacancies.open(0)
    assert vacancies.due(now=0.0) == [0]
    assert vacancies.filled(0)
