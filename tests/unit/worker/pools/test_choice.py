"""A pool is chosen by its name or by a dotted path; a mistake is answered with what was meant."""

from __future__ import annotations

from typing import Any

import pytest

from djqueue.exceptions import ImproperlyConfigured
from djqueue.messaging.startboard import StartBoard
from djqueue.worker import pools
from djqueue.worker.pools.prefork.pool import PreforkPool
from djqueue.worker.pools.solo import SoloPool
from djqueue.worker.pools.threads import ThreadsPool


class OurPool(SoloPool):
    """A pool of somebody's own."""


def create(kind: str, **options: Any) -> pools.Pool:
    return pools.create(kind, size=3, board=StartBoard.create(None, 3), worker="w1@here", **options)


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("prefork", PreforkPool),
        ("processes", PreforkPool),
        ("threads", ThreadsPool),
        ("solo", SoloPool),
        (f"{__name__}.OurPool", OurPool),
    ],
)
def test_every_kind_is_made(kind: str, made: type[pools.Pool]) -> None:
    pool = create(kind)
    assert type(pool) is made
    assert pool.size == (1 if issubclass(made, SoloPool) else 3)


def test_a_wrong_name_is_answered_with_the_right_one() -> None:
    with pytest.raises(ImproperlyConfigured, match="'prefrok'; did you mean 'prefork'"):
        create("prefrok")


def test_a_name_like_none_is_answered_with_all_of_them() -> None:
    with pytest.raises(ImproperlyConfigured, match="there are prefork, processes, threads, solo"):
        create("xyz")


def test_a_path_that_leads_nowhere_is_told() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"'no\.such\.Pool' cannot be imported"):
        create("no.such.Pool")


@pytest.mark.parametrize("kind", ["threads", "solo"])
def test_limits_for_children_are_told_to_mean_nothing_without_children(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    create(kind, max_tasks_per_child=10)
    assert "max_tasks_per_child" in caplog.text
