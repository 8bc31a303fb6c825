"""Pools for the tests: started, driven, and closed whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from djqueue.messaging.startboard import StartBoard
from djqueue.worker import pools
from tests.contracts.pools import deeds
from tests.contracts.pools.driver import Driver

MakeDriver = Callable[..., Driver]


@pytest.fixture
def make_driver() -> Iterator[MakeDriver]:
    """Return a function that starts a pool of a kind; all of them are closed afterwards.

    `slots` of the board: for children that leave and those that come.
    """
    drivers: list[Driver] = []

    def make(kind: str, size: int = 2, slots: int | None = None, **options: Any) -> Driver:
        board = StartBoard.create(None, slots or size * 2 + 2)
        options.setdefault("perform", deeds.perform)
        driver = Driver(pools.create(kind, size=size, board=board, worker="w1@here", **options))
        drivers.append(driver)
        return driver.ready()

    yield make
    for driver in drivers:
        driver.close()


@pytest.fixture(params=["prefork", "threads", "solo"])
def driver(request: pytest.FixtureRequest, make_driver: MakeDriver) -> Driver:
    """A pool of each kind with two children."""
    return make_driver(request.param)


@pytest.fixture(params=["prefork", "threads"])
def parallel(request: pytest.FixtureRequest, make_driver: MakeDriver) -> Driver:
    """A pool of each kind that runs two jobs at a time."""
    return make_driver(request.param)


@pytest.fixture
def prefork(make_driver: MakeDriver) -> Driver:
    """A pool of two child processes."""
    return make_driver("prefork")
