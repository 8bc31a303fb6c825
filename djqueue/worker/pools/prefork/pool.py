"""The parent's side of prefork: hands jobs to children, collects what they say, replaces them when they end.

Jobs come in from the loop, reports go out; in between every job is either in `_waiting` or in the hands of
exactly one child. The nursery makes and reaps the children, `deal` decides who gets what, the warden
watches the clock. Nothing here ever blocks, except `close`.
"""

from __future__ import annotations

import atexit
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from djqueue.messaging.contract import Watch
from djqueue.messaging.startboard import StartBoard, Started
from djqueue.result.documents import Document
from djqueue.tasks.execution import perform as perform_task
from djqueue.tasks.outcome import Outcome
from djqueue.worker import log_lines
from djqueue.worker.pools import pacing
from djqueue.worker.pools.contract import (
    Finished,
    Job,
    Lost,
    NurseryLost,
    Perform,
    Pool,
    Report,
    Returned,
    StateUpdate,
)
from djqueue.worker.pools.prefork import frames
from djqueue.worker.pools.prefork.child import Upbringing
from djqueue.worker.pools.prefork.dealing import as_frame, deal
from djqueue.worker.pools.prefork.nursery import Born, Exited, NotBorn, Nursery
from djqueue.worker.pools.prefork.slots import FIRST_LOOK, ChildSlot, Line, Sentence
from djqueue.worker.pools.prefork.vacancies import Vacancies
from djqueue.worker.pools.prefork.warden import Warden

#: how long `close` lets idle children end by themselves, and the nursery after that, seconds
LAST_MOMENTS = 2.0


class PreforkPool(Pool):
    """A pool of child processes. The thread that calls `start` must live as long as the pool."""

    runs_here = False

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
        self._may_run = max_tasks_per_child
        upbringing = Upbringing(board, worker, perform, max_tasks_per_child, max_memory_per_child)
        self._nursery = Nursery(upbringing.raise_child)
        self._warden = Warden(board, self._nursery)
        self._vacancies = Vacancies(board.slots)
        self._children: dict[int, ChildSlot] = {}  # by process number
        self._waiting: deque[Job] = deque()  # submitted, and in no child's hands yet
        self._pace = pacing.Pace()
        self._reports: list[Report] = []
        self._is_running = False
        self._wake: Callable[[], None] = _nobody

    # -- life ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Fork the nursery and ask for the children."""
        self._nursery.start()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._nursery, selectors.EVENT_READ, self._hear_nursery)
        self._is_running = True
        atexit.register(self.close)
        self._vacancies.want(self.size, ())
        self._fill_vacancies(time.monotonic())

    def open(self, watch: Watch, unwatch: Callable[[Any], None], wake: Callable[[], None]) -> None:
        """Let the loop be woken by whatever any child says, or is able to take."""
        self._wake = wake
        # A selector is a file itself, readable when one of its files is ready; the loop then collects.
        watch(self._selector.fileno(), _nobody)

    def close(self) -> None:
        """End the children, those that are idle by asking, and the nursery."""
        if not self._is_running:
            return
        self._is_running = False
        atexit.unregister(self.close)
        for child in self._children.values():
            if child.held:
                self._nursery.signal(child.pid, signal.SIGKILL)
            else:
                child.line.send((frames.STOP,))
        deadline = time.monotonic() + LAST_MOMENTS
        while self._children and not self._nursery.is_lost and (left := deadline - time.monotonic()) > 0:
            self._listen(left)
        self._nursery.close(LAST_MOMENTS)
        for child in self._children.values():
            child.line.close()
        self._children.clear()
        self._selector.close()

    # -- size ----------------------------------------------------------------------------------------

    def grow(self, by: int) -> None:
        """Fork more children."""
        self._vacancies.want(by, (child.slot for child in self._children.values()))
        self.size += by
        self._fill_vacancies(time.monotonic())

    def shrink(self, by: int) -> None:
        """Dismiss children: those that are not up yet, then idle ones, then those that run something."""
        if by > self.size:
            raise ValueError(f"The pool has {self.size} children; it cannot shrink by {by}.")
        owners = {child.slot: child for child in self._children.values() if not child.is_replaced}
        slots = sorted(self._vacancies.wanted, key=lambda slot: (*_use_of(owners.get(slot)), -slot))
        for slot in slots[:by]:
            self._vacancies.unwant(slot)
            if slot in owners:
                self._dismiss(owners[slot])
        self.size -= by

    def restart(self, modules: Sequence[str] = (), *, reload: bool = False) -> None:
        """Dismiss all children; the nursery imports the modules before it forks others in their place."""
        if modules:
            self._nursery.load(modules, reload=reload)
        self._vacancies.recall()
        for child in self._children.values():
            self._dismiss(child)

    # -- jobs in, reports out ------------------------------------------------------------------------

    def room(self) -> int:
        """Return how many more jobs the children should be given now."""
        room = sum(child.room(self._pace) for child in self._children.values())
        return max(0, room - len(self._waiting))

    def submit(self, jobs: Sequence[Job]) -> None:
        """Hand the jobs to children; those that no child should take yet wait here."""
        self._pace.note(pacing.cost(job) for job in jobs)
        self._waiting.extend(jobs)
        self._deal()

    def collect(self) -> list[Report]:
        """Return what the children said, and what became of jobs whose child died."""
        self._listen(0)
        now = time.monotonic()
        self._fill_vacancies(now)
        if self._waiting:
            self._deal()
        if any(child.is_stuck for child in self._children.values()):
            self._look_after_all(now)
        reports, self._reports = self._reports, []
        if self._nursery.is_lost and self._is_running:
            if not reports:
                raise NurseryLost(f"The nursery process {self._nursery.pid} of the prefork pool is gone.")
            self._wake()
        return reports

    def tend(self, now: float) -> float:
        """Keep time limits, free stuck jobs, replace children."""
        self._listen(0)
        self.needs_tending = False
        if self._reports:
            self._wake()
        pause = self._look_after_all(now)
        return min(pause, self._fill_vacancies(now))

    def running(self) -> Iterable[Started]:
        """Return what the children run now."""
        for child in self._children.values():
            started = child.held and child.running(self._board)
            if started:
                yield started

    def pid(self, number: int) -> int:
        """Return the process number of the child that holds the job."""
        child = self._holder(number)
        return child.pid if child else super().pid(number)

    def pids(self) -> list[int]:
        """Return the process numbers of the children."""
        return list(self._children)

    def take_back(self) -> None:
        """Ask for every job that has not started."""
        while self._waiting:
            self._reports.append(Returned(self._waiting.popleft().number))
        now = time.monotonic()
        for child in self._children.values():
            if child.held:
                self._warden.ask_back(child, None, now)
        self._wake()

    def terminate(self, number: int, why: str) -> bool:
        """Kill the child that runs the job; take the job back where it has not started."""
        for job in self._waiting:
            if job.number == number:
                self._waiting.remove(job)
                self._reports.append(Returned(number))
                self._wake()
                return True
        child = self._holder(number)
        if child is None:
            return any(report.number == number for report in self._reports)
        sentence = Sentence(number, why)
        child.condemned[number] = sentence  # it may be just starting: then the warden finds it
        self.needs_tending = True
        started = child.running(self._board)
        if started is not None and started.number == number:
            self._warden.execute(child, sentence)
        else:
            self._warden.ask_back(child, [number], time.monotonic())
        self._wake()
        return True

    # -- inside --------------------------------------------------------------------------------------

    def _dismiss(self, child: ChildSlot) -> None:
        """Let the child end after what it runs; what it has not started comes back."""
        if child.is_dismissed:
            return
        child.is_dismissed = True
        if child.held:
            self._warden.ask_back(child, None, time.monotonic())
        child.line.send((frames.STOP,))

    def _deal(self) -> None:
        for child, jobs in deal(self._waiting, self._children.values(), time.monotonic()):
            child.line.send(as_frame(jobs))
            self.needs_tending = True  # they may have limits, or turn out to be slow

    def _holder(self, number: int) -> ChildSlot | None:
        return next((child for child in self._children.values() if number in child.held), None)

    def _look_after_all(self, now: float) -> float:
        is_anyone_idle = any(child.is_idle for child in self._children.values())
        pauses = [
            self._warden.look_after(child, now, is_anyone_idle=is_anyone_idle)
            for child in self._children.values()
        ]
        return min(pauses, default=float("inf"))

    def _fill_vacancies(self, now: float) -> float:
        """Ask for the children that are missing; return when the next one is due."""
        if not self._is_running:
            return float("inf")
        for slot in self._vacancies.due(now):
            self._board.finish(slot)
            self._nursery.spawn(slot)
        return self._vacancies.seconds_to_next(now)

    # -- what nursery and children say ---------------------------------------------------------------

    def _listen(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            key.data()

    def _hear_nursery(self) -> None:
        for news in self._nursery.news():
            if isinstance(news, Born):
                line = Line(news.sock, self._selector, partial(self._hear, news.pid))
                child = self._children[news.pid] = ChildSlot(news.slot, news.pid, line, self._may_run)
                if not self._is_running:
                    line.send((frames.STOP,))
                elif not self._vacancies.filled(news.slot):  # the pool has shrunk meanwhile
                    self._dismiss(child)
            elif isinstance(news, NotBorn):
                pause = self._vacancies.open_later(news.slot, time.monotonic())
                log_lines.child_not_made(news.why, pause)
            elif isinstance(news, Exited):
                self._bury(news.pid, news.status)
        self.needs_tending = True
        if self._nursery.is_lost:
            self._selector.unregister(self._nursery)

    def _hear(self, pid: int) -> None:
        child = self._children.get(pid)
        if child is None:
            return
        child.line.flush()
        try:
            for frame in child.line.read():
                self._take(child, frame)
        except Exception as error:  # a frame that is none: a task wrote into the pipe
            child.is_garbled = True
            self._warden.execute(child, Sentence(0, f"it said what no child says: {error!r}"))
            child.line.close()
        if not child.line.is_open:
            self.needs_tending = True

    def _take(self, child: ChildSlot, frame: frames.Frame) -> None:
        kind = frame[0]
        if kind == frames.OUTCOMES:
            child.look_pause = FIRST_LOOK
            for number, packed in frame[1]:
                outcome = Outcome.unpack(packed)
                if child.drop(number):
                    self._reports.append(Finished(number, outcome))
        elif kind == frames.STATE:
            if frame[1] in child.held:
                self._reports.append(StateUpdate(frame[1], Document.unpack(frame[2])))
        elif kind == frames.RETURNED:
            child.asked_back = False
            self._return(child, frame[1])
        elif kind == frames.INTERRUPTED:
            child.interrupted = frame[1]
            if held := child.held.get(frame[1]):
                log_lines.soft_limit(
                    held.job.name, str(held.job.message.headers.get("id")), held.job.soft_limit or 0.0
                )
        elif kind == frames.ESCAPED:
            if held := child.drop(frame[1]):
                limit = held.job.soft_limit if frame[3] else None
                self._reports.append(Lost(frame[1], True, f"{frame[2]} in child {child.pid}", limit))
            self._see_off(child)
        elif kind == frames.HELLO:
            child.is_ready = True
            self._vacancies.forgive(child.slot)
            self._wake()
        elif kind == frames.BYE:
            self._see_off(child)
            child.is_replaced = True  # it writes the board no more
            self._vacancies.open(child.slot)

    def _see_off(self, child: ChildSlot) -> None:
        """Take a child off duty that runs nothing more; what it still holds it will never start."""
        child.is_leaving = True
        self.needs_tending = True
        self._return(child, list(child.held))

    def _return(self, child: ChildSlot, numbers: Iterable[int]) -> None:
        for number in numbers:
            if child.drop(number, ran=False):
                self._reports.append(Returned(number))

    def _bury(self, pid: int, status: int) -> None:
        """Settle what a dead child leaves behind, and replace it."""
        child = self._children.get(pid)
        if child is None:
            return
        self._hear(pid)  # what it said last
        child.line.close()
        del self._children[pid]
        cause = _cause(child, status)
        last = self._board.read(child.slot)
        started, unstarted = child.split_at(last.number if last else None)
        if child.is_garbled:  # it may have told that they ended: nobody knows that none was started
            started, unstarted = started + unstarted, []
        for held in started:
            sentence = child.executed
            is_meant = sentence is not None and sentence.number == held.job.number
            text = cause if held is started[-1] else f"{cause} before it had told how the task ended"
            limit = sentence.limit if sentence and is_meant else None
            self._reports.append(Lost(held.job.number, True, text, limit))
        self._return(child, [held.job.number for held in unstarted])
        if not started and not child.is_leaving and self._is_running:
            log_lines.child_ended(cause)
        if child.is_replaced:
            return
        if child.is_ready:
            self._vacancies.open(child.slot)
        else:
            self._vacancies.open_later(child.slot, time.monotonic())


def _use_of(child: ChildSlot | None) -> tuple[bool, bool]:
    """Return what makes a child worth keeping: it is up, and it has something to do."""
    return (False, False) if child is None else (child.is_ready, bool(child.held))


def _cause(child: ChildSlot, status: int) -> str:
    if child.executed:
        return f"child {child.pid} was killed: {child.executed.why}"
    if status >= 0:
        return f"child {child.pid} exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = "unnamed"
    return f"child {child.pid} was killed by signal {-status} ({name})"


def _nobody() -> None:
    """Do nothing: reading is done when the loop collects, and waking only once it listens."""
