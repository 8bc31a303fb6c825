"""A loop for tests: drives one pool as the worker's loop does, and keeps every report it makes.

`until(condition, …)` waits, collects and tends until the condition holds; what came back is in `finished`,
`lost`, `returned` and `updates`, by job number. A second report for one job fails the test at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from djqueue.tasks.outcome import Outcome
from djqueue.worker.pools.contract import Finished, Job, Lost, Pool, Report, Returned, StateUpdate
from djqueue.worker.waiting import Waiting
from tests.contracts.pools import deeds


class Driver:
    """One thread, one pool."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.waiting = Waiting()
        self.submitted: set[int] = set()
        self.finished: dict[int, Outcome] = {}
        self.lost: dict[int, Lost] = {}
        self.returned: list[int] = []
        self.updates: dict[int, list[Any]] = {}
        self.order: list[Report] = []
        self._last = 0
        self._tend_at = 0.0
        pool.start()
        pool.open(self.waiting.watch, self.waiting.unwatch, self.waiting.wake)

    def close(self) -> None:
        self.pool.close()
        self.waiting.close()

    def job(self, deed: str, *arguments: Any, **options: Any) -> Job:
        """Return a job with the next number."""
        self._last += 1
        return deeds.job(self._last, deed, *arguments, **options)

    def submit(self, *jobs: Job) -> None:
        """Hand the jobs to the pool."""
        self.submitted.update(job.number for job in jobs)
        self.pool.submit(jobs)

    def do(self, deed: str, *arguments: Any, **options: Any) -> int:
        """Submit one job, and return its number."""
        job = self.job(deed, *arguments, **options)
        self.submit(job)
        return job.number

    def ready(self, children: int | None = None) -> Driver:
        """Wait until all children are up."""
        wanted = children or self.pool.size
        self.until(lambda: self.pool.room() >= wanted, 10, "for the pool to have room")
        return self

    def until(self, condition: Callable[[], Any], within: float, because: str) -> Any:
        """Drive the pool until the condition holds, and return its value."""
        deadline = time.monotonic() + within
        while not (value := condition()):
            assert time.monotonic() < deadline, (
                f"Gave up waiting {because}: not within {within:g} s; {self!r}"
            )
            self.cycle(0.01)
        return value

    def cycle(self, longest: float = 1.0) -> None:
        """Wait for something to happen, collect it, and tend."""
        pause = 0.0 if self.pool.needs_tending else self._tend_at - time.monotonic()
        self.waiting.wait(max(0.0, min(longest, pause)))
        for report in self.pool.collect():
            self._keep(report)
        now = time.monotonic()
        if now >= self._tend_at or self.pool.needs_tending:
            self._tend_at = now + self.pool.tend(now)

    def outcome(self, number: int, within: float = 10) -> Outcome:
        """Return the job's outcome once there is one."""
        self.until(lambda: number in self.finished or number in self.lost, within, f"for job {number} to end")
        assert number in self.finished, self.lost
        return self.finished[number]

    def answer(self, number: int, within: float = 10) -> Any:
        """Return what the job's deed returned."""
        return deeds.answer(self.outcome(number, within))

    def loss(self, number: int, within: float = 10) -> Lost:
        """Return how the job was lost."""
        self.until(lambda: number in self.finished or number in self.lost, within, f"for job {number} to end")
        assert number in self.lost, self.finished
        return self.lost[number]

    def run_all(self, jobs: Iterable[Job], within: float) -> None:
        """Submit the jobs as there is room, those that are returned again, until all have ended."""
        left = list(jobs)
        by_number = {job.number: job for job in left}
        deadline = time.monotonic() + within
        while len(by_number.keys() - self.finished.keys() - self.lost.keys()):
            assert time.monotonic() < deadline, f"Not all done within {within:g} s; {self!r}"
            while self.returned:
                left.insert(0, by_number[self.returned.pop()])
            if left and (room := self.pool.room()) > 0:
                self.submit(*left[:room])
                del left[:room]
            self.cycle(0.05)

    def is_settled(self) -> bool:
        """Tell whether every job came back."""
        return self.submitted == self.finished.keys() | self.lost.keys() | set(self.returned)

    def _keep(self, report: Report) -> None:
        number = report.number
        assert number in self.submitted, f"{report!r} is about a job that nobody submitted"
        ended = self.finished.keys() | self.lost.keys() | set(self.returned)
        assert number not in ended, f"{report!r} comes after the job was reported"
        self.order.append(report)
        if isinstance(report, Finished):
            self.finished[number] = report.outcome
        elif isinstance(report, Lost):
            self.lost[number] = report
        elif isinstance(report, Returned):
            self.returned.append(number)
        elif isinstance(report, StateUpdate):
            self.updates.setdefault(number, []).append(report.document)

    def __repr__(self) -> str:
        return (
            f"<{type(self.pool).__name__}: submitted {len(self.submitted)}, finished {len(self.finished)},"
            f" lost {self.lost}, returned {self.returned}, running {list(self.pool.running())}>"
        )
