"""The seam to pools: how the worker's loop hands out jobs and learns what became of them.

A pool runs jobs in children (prefork), threads, or right here (solo). The loop asks for room, submits,
and collects reports; everything a pool has to say is one of the small report classes below.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from djqueue.core.messages import WireMessage
from djqueue.exceptions import DjqueueError
from djqueue.messaging.contract import Watch
from djqueue.messaging.startboard import Started
from djqueue.result.documents import Document
from djqueue.tasks.outcome import Outcome


@dataclass(slots=True)
class Job:
    """One delivery on its way to user code.

    `number` is the worker's own (> 0, never reused), `tag` the delivery's. `starts` is the delivery's count
    of earlier starts. `soft_limit` and `hard_limit` are in seconds, None for no limit. `expected_runtime`
    is what is known of the task's run time in seconds (0: nothing yet); pools batch by it.
    """

    number: int
    tag: str
    name: str
    message: WireMessage
    delivery_info: dict[str, Any]
    starts: int = 0
    soft_limit: float | None = None
    hard_limit: float | None = None
    expected_runtime: float = 0.0


@dataclass(slots=True)
class Finished:
    """User code ended; the outcome says how."""

    number: int
    outcome: Outcome


@dataclass(slots=True)
class Lost:
    """The job's child died. `started` tells whether user code had been entered; `cause` is for people.

    `timed_out` carries the hard limit in seconds when the pool itself killed the child for it.
    """

    number: int
    started: bool
    cause: str
    timed_out: float | None = None


@dataclass(slots=True)
class Returned:
    """The job was taken back unstarted; the loop may submit it again or release it."""

    number: int


@dataclass(slots=True)
class StateUpdate:
    """A running task set a state (progress); store it at once."""

    number: int
    document: Document


Report = Finished | Lost | Returned | StateUpdate


class NurseryLost(DjqueueError):
    """The process that makes the pool's children is gone; the worker has to be started again."""


class Perform(Protocol):
    """What a pool calls for each job: `djqueue.tasks.execution.perform`.

    `report` takes the document of a state that the running task sets. What is raised means that nothing is
    known of the run's end: the job is reported as Lost, and a child process ends.
    """

    def __call__(
        self,
        message: WireMessage,
        *,
        delivery_info: dict[str, Any],
        starts: int,
        worker: str,
        report: Callable[[Document], None],
    ) -> Outcome:
        """Run the task of `message` and return what became of it."""


class Pool(ABC):
    """Runs jobs. Used from one thread only, the worker's loop.

    Life: `start` (before the process opens a connection or a thread), `open`, then `room`, `submit`,
    `collect` and `tend` as often as needed, and `grow`, `shrink` and `restart` when somebody steers;
    `take_back` when the worker stops, so that only running jobs are left; `close` ends everything. Closing
    may be asked for twice, and without having started.
    """

    #: how many jobs run at the same time
    size: int
    #: tasks run in the process that the pool is made in
    runs_here: bool = True
    #: something changed: `tend` should be called after this `collect` or `submit`, whatever it answered last
    needs_tending: bool = False

    @abstractmethod
    def start(self) -> None:
        """Make the pool able to take jobs (prefork: fork the nursery)."""

    @abstractmethod
    def open(self, watch: Watch, unwatch: Callable[[Any], None], wake: Callable[[], None]) -> None:
        """Hand over the files to watch; `wake` (thread-safe) makes the loop call `collect`."""

    @abstractmethod
    def room(self) -> int:
        """Return how many more jobs may be submitted now without making a short one wait for a long one."""

    @abstractmethod
    def submit(self, jobs: Sequence[Job]) -> None:
        """Take the jobs; each comes back exactly once as Finished, Lost or Returned."""

    @abstractmethod
    def collect(self) -> list[Report]:
        """Return what happened since the last call, in order; never blocks.

        Raises:
            NurseryLost: no child can be made or replaced any more; everything that was known was collected.
        """

    @abstractmethod
    def tend(self, now: float) -> float:
        """Enforce time limits, replace and recycle children, take back stuck jobs.

        `now` is `time.monotonic()`. Returns in how many seconds it wants to be called again, if
        `needs_tending` does not ask for it earlier.
        """

    @abstractmethod
    def running(self) -> Iterable[Started]:
        """Return what user code runs now, and since when."""

    def pid(self, number: int) -> int:
        """Return the process that runs job `number`."""
        return os.getpid()

    def pids(self) -> list[int]:
        """Return the processes that run jobs."""
        return [os.getpid()]

    @abstractmethod
    def take_back(self) -> None:
        """Ask for every job that has not started; they are reported as Returned, as far as possible."""

    @abstractmethod
    def terminate(self, number: int, why: str) -> bool:
        """Kill the child that runs job `number` (reported as Lost); False if this pool cannot."""

    def grow(self, by: int) -> None:
        """Run `by` more jobs at the same time from now on.

        Raises:
            NotImplementedError: the pool has one size only.
            ValueError: it cannot be as large as that.
        """
        raise NotImplementedError(f"{type(self).__name__} has one size only.")

    def shrink(self, by: int) -> None:
        """Run `by` jobs fewer at the same time; what runs is not cut short, and no child takes another job.

        Raises:
            NotImplementedError: the pool has one size only.
            ValueError: it is not as large as that.
        """
        raise NotImplementedError(f"{type(self).__name__} has one size only.")

    def restart(self, modules: Sequence[str] = (), *, reload: bool = False) -> None:
        """Let new children take the place of all; each one ends what it runs.

        The new ones have the `modules` imported, or imported again with `reload`.
        """

    @abstractmethod
    def close(self) -> None:
        """End children and threads now; jobs still running are abandoned."""
