"""Fixtures for tests of signatures and workflows: everything in memory, and tasks to put together.

The store and the inbox are shared with the rooms beside this one and live in `tests/support/in_memory.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from djqueue import Task, shared_task
from djqueue.conf import settings
from tests.support.in_memory import in_memory, inbox, store
from tests.support.in_process import DictStore

__all__ = ["in_memory", "inbox", "store"]


@pytest.fixture(params=["counted", "read", "asked"])
def how_chords_complete(request: pytest.FixtureRequest, store: DictStore) -> Iterator[str]:
    """Run the test with a store that counts chords, one that then reads documents, and one that is asked."""
    store.counts_chords = request.param == "counted"
    changes = {"RESULT_BACKEND": "cache+memory://"} if request.param == "read" else {}
    with settings.override(RESULT_CHORD_RETRY_INTERVAL=0.0, **changes):
        yield request.param


@pytest.fixture
def add() -> Task[..., Any]:
    """Return a task with two arguments, and perhaps a third."""
    return shared_task(name="canvas.add")(lambda x, y, z=0: x + y + z)


@pytest.fixture
def same() -> Task[..., Any]:
    """Return a task that returns what it gets."""
    return shared_task(name="canvas.same")(lambda x: x)


@pytest.fixture
def total() -> Task[..., Any]:
    """Return a task that sums up a list."""
    return shared_task(name="canvas.total")(lambda numbers: sum(numbers))
