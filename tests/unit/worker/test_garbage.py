"""The collector passes over what lives while a worker works, and is afterwards as it was."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from djqueue.worker.garbage import MORE_ALIVE, collected_seldom


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[None]:
    """Leave the collector as it was."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_it_looks_seldom_inside_the_block_and_as_before_afterwards() -> None:
    gc.set_threshold(700, 10, 10)
    with collected_seldom():
        assert gc.get_threshold() == (MORE_ALIVE, 10, 10)
        assert gc.get_freeze_count() > 0
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("first", [0, MORE_ALIVE * 2])
def test_a_project_that_wants_it_off_or_even_rarer_has_its_way(first: int) -> None:
    gc.set_threshold(first, 5, 5)
    with collected_seldom():
        assert gc.get_threshold() == (first, 5, 5)


def test_garbage_made_inside_the_block_is_still_found() -> None:
    class Ring:
        """Something that holds itself."""

    with collected_seldom():
        ring = Ring()
        ring.__dict__["itself"] = ring
        seen = weakref.ref(ring)
        del ring
        gc.collect()
        assert seen() is None
