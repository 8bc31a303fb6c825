"""Assertions on tasks for Django's test cases: `class OrderTests(TaskTestMixin, TestCase)`.

While a test runs, what it sends stays in this process. The test asks what was sent, and runs it when it wants
to; with a `TransactionTestCase` just as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.test import SimpleTestCase

from djqueue.tasks.task import Task
from djqueue.testing.sent import Sent, SentCall, committing, recording
from djqueue.testing.worker import InProcessWorker


class TaskTestMixin(SimpleTestCase):
    """Stands before Django's class among the bases. A `setUp` of your own calls that of `super()`."""

    sentTasks: Sent  # noqa: N815  (unittest's way with names)

    def setUp(self) -> None:
        """Begin to record."""
        super().setUp()
        self.sentTasks = self.enterContext(recording())

    @contextmanager
    def captureTasks(self, *, run: bool = False) -> Iterator[list[SentCall]]:  # noqa: N802
        """Give a list that holds, after the block, what was sent in it; with `run`, run it then.

        Functions given to `transaction.on_commit` in the block are called at its end.
        """
        calls: list[SentCall] = []
        before = len(self.sentTasks.calls())
        with committing():
            yield calls
        calls += self.sentTasks.calls()[before:]
        if run:
            self.runTasks()

    def runTasks(self, *, throw: bool = True, limit: int = 1000) -> int:  # noqa: N802
        """Run what was sent, as `InProcessWorker.run_pending` does."""
        return InProcessWorker().run_pending(throw=throw, limit=limit)

    def assertTaskSent(self, task: Task[..., Any] | str, args: Any = None, kwargs: Any = None) -> SentCall:  # noqa: N802
        """Return the newest call of the task, with these arguments if they are given, or fail."""
        return self.sentTasks.assert_sent(task, args, kwargs)
