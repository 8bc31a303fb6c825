"""The pool of threads in this process: for tasks that wait for other machines most of the time.

All lanes take from one queue, so a job waits only while every lane is busy. A thread cannot be killed: the
soft limit is raised in it at its next step in Python; at the hard limit the job is reported as timed out,
the thread is left to itself and another takes its lane. `terminate` reaches only what has not started.
"""

from __future__ import annotations

import ctypes
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any

from djqueue.exceptions import SoftTimeLimitExceeded
from djqueue.messaging.contract import Watch
from djqueue.messaging.startboard import StartBoard, Started
from djqueue.result.documents import Document
from djqueue.tasks import unit_of_work
from djqueue.tasks.execution import perform as perform_task
from djqueue.tasks.outcome import Outcome
from djqueue.worker import log_lines
from djqueue.worker.pools import pacing
from djqueue.worker.pools.contract import Finished, Job, Lost, Perform, Pool, Report, Returned, StateUpdate
from djqueue.worker.pools.escapes import describe

logger = logging.getLogger("djqueue.worker")

#: the most quick jobs that lie ready for each lane
MOST_READY = 8
#: how long `close` waits for idle threads, seconds
LAST_MOMENTS = 1.0


class Lane:
    """One thread and what it runs. `running` and `is_left` are written under the pool's lock."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.running: Job | None = None
        self.since = 0.0
        self.is_interrupted = False  # the soft limit was raised in the running job
        self.is_left = False  # another thread has its slot; what it still says is not heard
        self.thread: threading.Thread | None = None


class ThreadsPool(Pool):
    """Runs jobs in threads. `_lock` guards who runs what; reports come in through a thread-safe deque."""

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
        self.size = size
        self._board = board
        self._worker = worker
        self._perform = perform
        self._lock = threading.Lock()
        self._lanes: list[Lane] = []
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._held: dict[int, Job] = {}  # submitted and not reported; the loop's thread only
        self._unstarted: set[int] = set()  # of those, what no lane has taken; under the lock
        self._said: deque[Report] = deque()
        self._is_woken = False
        self._pace = pacing.Pace()
        self._wake: Callable[[], None] = _nobody
        if max_tasks_per_child or max_memory_per_child:
            logger.warning(
                "The threads pool has no children: max_tasks_per_child and max_memory_per_child do nothing."
            )

    def start(self) -> None:
        """Start the threads."""
        self._lanes = [self._open_lane(slot) for slot in range(self.size)]

    def open(self, watch: Watch, unwatch: Callable[[Any], None], wake: Callable[[], None]) -> None:
        """Remember how to wake the loop; there is no file to watch."""
        self._wake = wake

    def grow(self, by: int) -> None:
        """Open more lanes."""
        with self._lock:
            taken = {lane.slot for lane in self._lanes}
            free = [slot for slot in range(self._board.slots) if slot not in taken]
            if by > len(free):
                raise ValueError(
                    f"The pool has {self.size} threads and room for {len(free)} more; it cannot grow by {by}."
                )
            self._lanes += [self._open_lane(slot) for slot in free[:by]]
        self.size += by

    def shrink(self, by: int) -> None:
        """Close lanes: those that are the first to be free once what lies ready is done."""
        if by > self.size:
            raise ValueError(f"The pool has {self.size} threads; it cannot shrink by {by}.")
        self.size -= by
        for _ in range(by):
            self._queue.put(None)

    def room(self) -> int:
        """Return how many more jobs may lie ready for the lanes."""
        ready = min(self._pace.room(0, 0.0), MOST_READY)
        return max(0, self.size * ready - len(self._held))

    def submit(self, jobs: Sequence[Job]) -> None:
        """Put the jobs in line."""
        self._pace.note(pacing.cost(job) for job in jobs)
        with self._lock:
            self._unstarted.update(job.number for job in jobs)
        for job in jobs:
            self._held[job.number] = job
            self._queue.put(job)
        self.needs_tending = True

    def collect(self) -> list[Report]:
        """Return what the lanes reported."""
        self._is_woken = False  # before looking: what comes in meanwhile wakes the loop again
        reports: list[Report] = []
        while self._said:
            report = self._said.popleft()
            if isinstance(report, StateUpdate):
                if report.number in self._held:
                    reports.append(report)
            elif self._held.pop(report.number, None):  # else it was given up before
                reports.append(report)
        return reports

    def tend(self, now: float) -> float:
        """Keep time limits."""
        self.needs_tending = False
        limits = [limit for job in self._held.values() for limit in (job.soft_limit, job.hard_limit) if limit]
        if not limits:
            return math.inf
        # A job that waits may start at any moment, so the shortest limit is the longest pause.
        return min(*limits, *(self._keep_limits(lane, now) for lane in list(self._lanes)))

    def running(self) -> Iterable[Started]:
        """Return what the lanes run."""
        with self._lock:
            return [
                Started(lane.running.number, lane.since, lane.running.tag)
                for lane in self._lanes
                if lane.running is not None
            ]

    def take_back(self) -> None:
        """Take everything back that no lane has started."""
        with self._lock:
            numbers, self._unstarted = self._unstarted, set()
        for number in sorted(numbers):
            self._say(Returned(number))

    def terminate(self, number: int, why: str) -> bool:
        """Take the job back if it has not started; False for one that runs."""
        with self._lock:
            is_unstarted = number in self._unstarted
            self._unstarted.discard(number)
            runs = any(lane.running is not None and lane.running.number == number for lane in self._lanes)
        if is_unstarted:
            self._say(Returned(number))
        return not runs and number in self._held

    def close(self) -> None:
        """End idle threads; those that run something are left to themselves."""
        lanes, self._lanes = self._lanes, []
        with self._lock:
            idle = [lane for lane in lanes if lane.running is None]
            for lane in lanes:
                lane.is_left = True
            self._unstarted.clear()
        for _ in lanes:
            self._queue.put(None)
        deadline = time.monotonic() + LAST_MOMENTS
        for lane in idle:
            if lane.thread is not None:
                lane.thread.join(max(0.0, deadline - time.monotonic()))

    # -- limits --------------------------------------------------------------------------------------

    def _keep_limits(self, lane: Lane, now: float) -> float:
        """Do what is due for the lane's job; return in how many seconds to come again."""
        with self._lock:
            job = lane.running
            if job is None:
                return math.inf
            ran = now - lane.since
            if job.hard_limit and ran >= job.hard_limit:
                self._leave(lane, job, job.hard_limit)
                return math.inf
            left = job.hard_limit - ran if job.hard_limit else math.inf
            if not job.soft_limit or lane.is_interrupted:
                return left
            if ran < job.soft_limit:
                return min(left, job.soft_limit - ran)
            lane.is_interrupted = True
            _raise_in(lane.thread, SoftTimeLimitExceeded)
        log_lines.soft_limit(job.name, str(job.message.headers.get("id")), job.soft_limit)
        return left

    def _leave(self, lane: Lane, job: Job, limit: float) -> None:
        """Report the job as timed out and give its lane to another thread. Called with the lock."""
        lane.is_left = True
        self._board.finish(lane.slot)
        self._say(Lost(job.number, True, f"its time limit of {limit:g} s was over", limit))
        self._lanes[self._lanes.index(lane)] = self._open_lane(lane.slot)

    # -- the lanes' side: everything below runs in their threads, too ---------------------------------

    def _open_lane(self, slot: int) -> Lane:
        lane = Lane(slot)
        lane.thread = threading.Thread(
            target=self._live, args=(lane,), name=f"djqueue-lane-{slot}", daemon=True
        )
        lane.thread.start()
        return lane

    def _live(self, lane: Lane) -> None:
        try:
            while not lane.is_left and (job := self._queue.get()) is not None:
                if self._begin(lane, job):
                    self._run(lane, job)
        finally:
            with self._lock:
                if lane in self._lanes:
                    self._lanes.remove(lane)
            unit_of_work.close_connections()

    def _begin(self, lane: Lane, job: Job) -> bool:
        """Enter that the lane runs the job; False when the job was taken back."""
        with self._lock:
            if job.number not in self._unstarted:
                return False
            self._unstarted.remove(job.number)
            lane.running, lane.since, lane.is_interrupted = job, time.monotonic(), False
            self._board.start(lane.slot, job.number, job.tag.encode(), lane.since)
            return True

    def _end(self, lane: Lane) -> None:
        """Enter that the lane runs nothing: from here on nobody interrupts it."""
        with self._lock:
            lane.running = None
            if not lane.is_left:
                self._board.finish(lane.slot)

    def _run(self, lane: Lane, job: Job) -> None:
        outcome: Outcome | None = None
        escaped: BaseException | None = None
        try:
            outcome = self._perform(
                job.message,
                delivery_info=job.delivery_info,
                starts=job.starts,
                worker=self._worker,
                report=partial(self._report, job.number),
            )
            self._end(lane)
            time.monotonic()  # one more call: an exception already on its way is raised in here
        except BaseException as error:  # a task that exits must not take the lane with it
            escaped = error
        self._end(lane)
        if outcome is not None:
            self._say(Finished(job.number, outcome))
        elif escaped is not None:
            logger.error(
                "Job %d ended with an exception that no task may end with", job.number, exc_info=escaped
            )
            limit = job.soft_limit if isinstance(escaped, SoftTimeLimitExceeded) else None
            self._say(Lost(job.number, True, describe(escaped), limit))

    def _report(self, number: int, document: Document) -> None:
        self._say(StateUpdate(number, document))

    def _say(self, report: Report) -> None:
        self._said.append(report)
        if not self._is_woken:
            self._is_woken = True
            self._wake()


def _raise_in(thread: threading.Thread | None, error: type[BaseException]) -> None:
    """Raise the exception in the thread, at its next step in Python code."""
    if thread is not None and thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(error))


def _nobody() -> None:
    """Wake nobody: the pool was not opened."""
