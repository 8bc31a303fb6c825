"""The worker of tests: the real one, with the solo pool, on every queue of the broker in memory.

`run_pending` works in the calling thread, and so in the test's transaction, until nothing is left to do;
`running` works in a thread beside the test. What has an eta waits for it: move the clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from threading import Event
from typing import Any

from djqueue.core.registry import load_tasks
from djqueue.messaging.departures import commit_in_testcase
from djqueue.messaging.transports.memory import MemoryBroker, MemorySource
from djqueue.signals import after_task_publish, task_failure
from djqueue.tasks.unit_of_work import close_connections
from djqueue.testing.sent import committing, memory
from djqueue.worker import log_lines
from djqueue.worker.components import Components
from djqueue.worker.loop import Loop, Parts
from djqueue.worker.options import worker_options
from djqueue.worker.outages import Outage
from djqueue.worker.service import Worker


class InProcessWorker:
    """Runs what was sent inside `recording`. Its results go where the project keeps results."""

    def __init__(self) -> None:
        load_tasks()

    def run_pending(self, *, throw: bool = True, limit: int = 1000) -> int:
        """Run what is due, and what follows from it, here and now; return how many tasks ran.

        Unless `throw` is False, the first exception that a task ended with is raised when everything ran.

        Raises:
            AssertionError: a message could not be run and was put aside (only with `throw`).
            RuntimeError: `limit` tasks ran, and there are still more.
        """
        commit_in_testcase()
        buried = len(memory().dead_letters)
        service = Service(limit)
        service.is_over.set()
        with _failures_raised(throw):
            service.run()
        for dead in memory().dead_letters[buried:] if throw else ():
            raise AssertionError(f"A message was put aside as a dead letter ({dead.reason}): {dead.detail}")
        return service.ran

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run what is sent while the block lasts, in a thread; at its end finish what is due.

        The thread has database connections of its own, so the test must not live in a transaction.
        """
        service = Service()
        after_task_publish.connect(service.wake)
        with ThreadPoolExecutor(1, "djqueue-testing") as beside:
            ended = beside.submit(service.run)
            beside.submit(close_connections)
            try:
                yield
            finally:
                service.is_over.set()
                service.wake()
                after_task_publish.disconnect(service.wake)
                ended.result()


class Service(Worker):
    """One life of the worker; it ends when nothing is left to do and `is_over` is set (by any thread)."""

    def __init__(self, limit: float = float("inf")) -> None:
        options = worker_options({"pool": "solo", "concurrency": 1, "hostname": "testing@localhost"})
        options = replace(options, prefetch_multiplier=0, max_tasks_per_child=None, max_memory_per_child=None)
        super().__init__(options, say=lambda text: None)
        self.limit = limit
        self.ran = 0
        self.is_over = Event()
        self.loop: Loop | None = None  # while it runs

    def wake(self, **signal: Any) -> None:
        """Make the loop look for messages (also a receiver of `after_task_publish`)."""
        if self.loop is not None:
            self.loop.wake()

    def _broker(self) -> MemoryBroker:
        return memory()

    def _assemble(self, *given: Any) -> tuple[Loop, Parts]:
        _, parts = super()._assemble(*given)
        parts.components = Components(())  # nobody watches or steers this worker
        return InProcessLoop(parts, self), parts


class InProcessLoop(Loop):
    """The worker's loop without signal handlers."""

    def __init__(self, parts: Parts, service: Service) -> None:
        super().__init__(parts, prefetch_multiplier=0, grace=None)
        parts.settler.outage = ShortOutage(service.is_over)
        self._service = service

    def run(self) -> None:
        """Work until nothing is left to do and the service is over."""
        service = self._service
        service.loop = self
        try:
            while (is_busy := self._is_busy()) or not service.is_over.is_set():
                if is_busy and service.ran >= service.limit:
                    raise RuntimeError(
                        f"{service.ran} tasks ran, and more wait. Does one send itself or ask to be put back?"
                        " If so many are meant, give a higher limit=."
                    )
                if is_busy:
                    self.wake()
                with committing():
                    self.cycle()
                service.ran = self._parts.ledger.totals.total()
        finally:
            service.loop = None

    def _is_busy(self) -> bool:
        parts, broker = self._parts, memory()
        assert isinstance(parts.source, MemorySource)
        parts.source.queues = tuple(broker.queues())
        return broker.has_ready(parts.source.queues) or len(parts.ledger) > 0 or len(parts.settler) > 0


class ShortOutage(Outage):
    """A store that cannot be written: tried again while the test goes on, told when it waits for the end."""

    def __init__(self, is_over: Event) -> None:
        super().__init__(lambda error: log_lines.results_deferred(1, str(error)), log_lines.results_stored)
        self._is_over = is_over

    def note(self, error: Exception, now: float) -> None:
        """Raise the error, or note it as every worker does."""
        if self._is_over.is_set():
            raise error
        super().note(error, now)


@contextmanager
def _failures_raised(throw: bool) -> Iterator[None]:
    failures: list[BaseException] = []

    def note(sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
        exception.add_note(f"It ended the task {sender.name}[{task_id}].")
        failures.append(exception)

    task_failure.connect(note)
    try:
        yield
    finally:
        task_failure.disconnect(note)
        if failures and throw:
            raise failures[0]
