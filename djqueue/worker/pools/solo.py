"""The pool that runs each job right here, in the loop's thread: for debugging, and where forking is no way.

While a job runs the worker does nothing else: states that the task sets are stored when it ends, time
limits are not enforced, and leases are not renewed. One job at a time.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from djqueue import signals
from djqueue.messaging.contract import Watch
from djqueue.messaging.startboard import StartBoard, Started
from djqueue.result.documents import Document
from djqueue.tasks.execution import perform as perform_task
from djqueue.worker.pools.contract import Finished, Job, Lost, Perform, Pool, Report, StateUpdate
from djqueue.worker.pools.escapes import describe

logger = logging.getLogger("djqueue.worker")

SLOT = 0


class SoloPool(Pool):
    """Runs jobs inside `submit`."""

    def __init__(
        self,
        *,
        size: int,
        board: StartBoard,
        worker: str,
        perform: Perform = perform_task,
        max_tasks_per_child: int | None = None,
        max_memory_per_child: int | None = None,
    ) -> None:
        self.size = 1
        self._board = board
        self._worker = worker
        self._perform = perform
        self._reports: list[Report] = []
        self._started = False
        self._wake: Callable[[], None] = _nobody
        if max_tasks_per_child or max_memory_per_child:
            logger.warning(
                "The solo pool has no children: max_tasks_per_child and max_memory_per_child do nothing."
            )

    def start(self) -> None:
        """Tell the receivers of worker_process_init that this process runs tasks."""
        self._started = True
        signals.worker_process_init.send_robust(sender=None)

    def open(self, watch: Watch, unwatch: Callable[[Any], None], wake: Callable[[], None]) -> None:
        """Remember how to wake the loop; there is no file to watch."""
        self._wake = wake

    def room(self) -> int:
        """Return 1 when everything that ran was collected."""
        return 0 if self._reports else 1

    def submit(self, jobs: Sequence[Job]) -> None:
        """Run the jobs, one after the other."""
        for job in jobs:
            self._run(job)
        self._wake()

    def collect(self) -> list[Report]:
        """Return what became of the jobs."""
        reports, self._reports = self._reports, []
        return reports

    def tend(self, now: float) -> float:
        """Nothing to do: nothing runs while the loop is asking."""
        return float("inf")

    def running(self) -> Iterable[Started]:
        """Return nothing: while the loop asks, nothing runs."""
        return ()

    def take_back(self) -> None:
        """Nothing to do: nothing waits here."""

    def terminate(self, number: int, why: str) -> bool:
        """Return False: a task in this thread cannot be killed."""
        return False

    def close(self) -> None:
        """Tell the receivers of worker_process_shutdown; jobs do not outlive `submit`."""
        if self._started:
            self._started = False
            signals.worker_process_shutdown.send_robust(sender=None, pid=os.getpid(), exitcode=0)

    def _run(self, job: Job) -> None:
        self._board.start(SLOT, job.number, job.tag.encode(), time.monotonic())
        try:
            outcome = self._perform(
                job.message,
                delivery_info=job.delivery_info,
                starts=job.starts,
                worker=self._worker,
                report=partial(self._report, job.number),
            )
        except BaseException as error:  # a task that exits must not take the worker with it
            logger.exception("Job %d ended with an exception that no task may end with", job.number)
            self._reports.append(Lost(job.number, True, describe(error)))
        else:
            self._reports.append(Finished(job.number, outcome))
        finally:
            self._board.finish(SLOT)

    def _report(self, number: int, document: Document) -> None:
        self._reports.append(StateUpdate(number, document))


def _nobody() -> None:
    """Wake nobody: the pool was not opened."""
