"""States have Celery's names, sets and order."""

from __future__ import annotations

import celery.states
import pytest

from djqueue import states
from djqueue.states import state

NAMES = [*celery.states.ALL_STATES, "REJECTED", "IGNORED"]


@pytest.mark.parametrize("name", NAMES)
def test_every_state_of_celery_is_there_under_its_name(name: str) -> None:
    assert getattr(states, name) == name


@pytest.mark.parametrize(
    "name", ["READY_STATES", "UNREADY_STATES", "EXCEPTION_STATES", "PROPAGATE_STATES", "ALL_STATES"]
)
def test_the_sets_are_celerys(name: str) -> None:
    assert getattr(states, name) == getattr(celery.states, name)


@pytest.mark.parametrize("other", [*NAMES, "PROGRESS"])
@pytest.mark.parametrize("one", [*NAMES, "PROGRESS"])
def test_states_compare_as_celerys_do(one: str, other: str) -> None:
    for compare in ("__lt__", "__le__", "__gt__", "__ge__"):
        expected = getattr(celery.states.state(one), compare)(celery.states.state(other))
        assert getattr(state(one), compare)(state(other)) == expected, (one, compare, other)


def test_a_state_is_its_text() -> None:
    assert state("STARTED") == "STARTED"
    assert state("STARTED") > state("PENDING")
    assert state("SUCCESS") > state("PROGRESS") > state("STARTED")
