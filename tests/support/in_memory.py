"""Fixtures for tests of tasks, signatures and results: the memory broker, a store in a dictionary, an inbox.

Nothing here waits for anything: what is sent is in the inbox at once. A `conftest.py` takes what it
needs by importing it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from djqueue.conf import settings
from djqueue.result import backends
from tests.support.in_process import STORE, DictStore, Inbox


@pytest.fixture(autouse=True)
def in_memory() -> Iterator[None]:
    """Send to memory and keep results in a dictionary."""
    with settings.override(BROKER_URL="memory://", RESULT_BACKEND=STORE):
        yield


@pytest.fixture
def inbox(in_memory: None) -> Inbox:
    """Return the default queue."""
    return Inbox()


@pytest.fixture
def store(in_memory: None) -> DictStore:
    """Return the store of this test."""
    found = backends.backend()
    assert isinstance(found, DictStore)
    return found
