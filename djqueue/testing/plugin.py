"""The pytest plugin: fixtures `djqueue_sent`, `djqueue_worker` and `djqueue_eager`.

pytest finds it by its entry point. Nothing happens unless a test asks for one of the fixtures, and only this
file needs pytest.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from djqueue.conf import settings
from djqueue.testing.sent import Sent, recording
from djqueue.testing.worker import InProcessWorker


@pytest.fixture
def djqueue_sent() -> Iterator[Sent]:
    """Keep what the test sends in this process, and say what it was."""
    with recording() as sent:
        yield sent


@pytest.fixture
def djqueue_worker(djqueue_sent: Sent) -> InProcessWorker:
    """Run what the test sends: when it calls `run_pending()`, or inside `with djqueue_worker.running()`."""
    return InProcessWorker()


@pytest.fixture
def djqueue_eager() -> Iterator[None]:
    """Run every task where it is called, and raise its exception there."""
    with settings.override(TASK_ALWAYS_EAGER=True, TASK_EAGER_PROPAGATES=True):
        yield
