"""A child's life: take jobs from the pipe, run them, hand outcomes back; give up what has not started.

There is one thread and one pipe. While user code runs, the parent's signal makes the child look at the pipe
in between: to give jobs back, to hand over outcomes, or to raise the soft time limit. Outside user code the
signal only leaves a mark, which is looked at before user code is entered again.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import Any

from djqueue import signals
from djqueue.core.messages import WireMessage
from djqueue.core.requests import worker_request
from djqueue.exceptions import SoftTimeLimitExceeded
from djqueue.messaging.startboard import StartBoard
from djqueue.result.documents import Document
from djqueue.worker.pools.contract import Perform
from djqueue.worker.pools.escapes import describe
from djqueue.worker.pools.prefork import frames
from djqueue.worker.pools.prefork.childhood import grow_up
from djqueue.worker.pools.prefork.memory import ResidentMemory

logger = logging.getLogger("djqueue.worker")

#: the parent sends it so that the child looks at its pipe although user code runs
LOOK = signal.SIGUSR2

#: a job expected to end sooner does not make finished outcomes wait too long, seconds
QUICK = 0.005
#: finished outcomes are handed over when the first has waited so long, seconds, or when there are so many
LONGEST_WAIT, MOST_WAITING = 0.005, 32

PIECE = 65536


@dataclass(slots=True, frozen=True)
class Upbringing:
    """What every child of a pool is given."""

    board: StartBoard
    worker: str
    perform: Perform
    max_tasks: int | None
    max_memory: int | None

    def raise_child(self, slot: int, sock: socket.socket) -> int:
        """Live a child's life in this process, and return its exit status."""
        grow_up()
        return Child(self, slot, sock).run()


class Child:
    """The loop of one child process. Used by its main thread; only `_report` is called from others too."""

    def __init__(self, upbringing: Upbringing, slot: int, sock: socket.socket) -> None:
        self._board = upbringing.board
        self._worker = upbringing.worker
        self._perform = upbringing.perform
        self._max_tasks = upbringing.max_tasks
        self._max_memory = upbringing.max_memory
        self._slot = slot
        self._sock = sock
        self._reader = frames.FrameReader()
        self._writing = threading.Lock()  # tasks may report states from threads of their own
        self._queue: deque[Any] = deque()  # jobs as they came, not started
        self._outcomes: list[tuple[int, Any]] = []  # not handed over yet
        self._first_waits_since = 0.0
        self._current = 0  # number of the job whose user code runs
        self._overdue = 0  # number of a job that reached its soft limit
        self._ending = ""  # why this child ends after the running job
        self._is_cut_off = False  # the pipe is broken: the parent is gone, or the task closed it
        self._is_copy = False  # this is a process that a task forked from the child
        #: the main thread is in this class's own code: the signal only leaves a mark
        self._busy = True
        self._asked_to_look = False

    def run(self) -> int:
        """Run jobs until told to stop, worn out or alone; return the exit status."""
        signal.signal(LOOK, self._on_look)
        os.register_at_fork(after_in_child=self._be_nobody)
        signals.worker_process_init.send_robust(sender=None)
        self._write((frames.HELLO,))
        done = 0
        memory = ResidentMemory() if self._max_memory else None
        status = 0
        while not self._ending and (job := self._next_job()) is not None:
            if not self._run(job):
                status = 1
                break
            done += 1
            if self._max_tasks and done >= self._max_tasks:
                self._ending = f"it ran {done} tasks"
            elif memory and memory.kib() > (self._max_memory or 0):
                self._ending = f"it holds {memory.kib()} KiB of memory"
        self._say_goodbye()
        if self._is_cut_off:
            status = 1
        signals.worker_process_shutdown.send_robust(sender=None, pid=os.getpid(), exitcode=status)
        return status

    # -- between jobs --------------------------------------------------------------------------------

    def _next_job(self) -> Any:
        """Return the next job, or None when there will be none; outcomes do not wait meanwhile."""
        if not self._queue:
            self._hand_over()
            self._clear_board()
            while not self._queue and not self._ending:
                self._read()
        if self._ending:
            return None
        job = self._queue.popleft()
        if self._outcomes and (
            not 0 < job[-1] < QUICK
            or len(self._outcomes) >= MOST_WAITING
            or time.monotonic() - self._first_waits_since >= LONGEST_WAIT
        ):
            self._hand_over()
        return job

    def _hand_over(self) -> None:
        if self._outcomes:
            outcomes, self._outcomes = self._outcomes, []
            self._write((frames.OUTCOMES, outcomes))

    def _say_goodbye(self) -> None:
        self._hand_over()
        if self._queue:
            self._give_back(None)
        self._clear_board()
        self._write((frames.BYE, self._ending))

    def _clear_board(self) -> None:
        # When outcomes could not be handed over, the board is all the parent has to go by.
        if not self._is_cut_off:
            self._board.finish(self._slot)

    def _give_back(self, wanted: list[int] | None) -> None:
        """Tell which unstarted jobs leave this child; all of them when `wanted` is None."""
        numbers = [job[0] for job in self._queue if wanted is None or job[0] in wanted]
        self._queue = deque(job for job in self._queue if job[0] not in numbers)
        self._write((frames.RETURNED, numbers))

    # -- one job -------------------------------------------------------------------------------------

    def _run(self, job: Any) -> bool:
        """Run one job; False when nothing more may run in this process."""
        number, tag, message, delivery_info, starts, _ = job
        outcome = None
        self._current = number
        self._board.start(self._slot, number, tag, time.monotonic())
        try:
            self._busy = False
            if self._asked_to_look:
                self._look()
            outcome = self._perform(
                WireMessage.unpack(message),
                delivery_info=delivery_info,
                starts=starts,
                worker=self._worker,
                report=partial(self._report, number),
            )
        except BaseException as error:  # whatever it is, the parent must hear of it
            self._busy = True
            if outcome is None:  # else the soft limit came after the last moment: the task has ended
                return self._escape(number, error)
        self._busy = True
        self._current = 0
        if self._is_copy:
            os._exit(0)
        if not self._outcomes:
            self._first_waits_since = time.monotonic()
        self._outcomes.append((number, outcome.pack()))
        return True

    def _escape(self, number: int, error: BaseException) -> bool:
        if self._is_copy:
            os._exit(1)
        self._current = 0
        logger.error("Job %d ended with an exception that no task may end with", number, exc_info=error)
        self._hand_over()
        self._write((frames.ESCAPED, number, describe(error), isinstance(error, SoftTimeLimitExceeded)))
        return False

    def _report(self, number: int, document: Document) -> None:
        """Send a state at once; called by the running task, from whatever thread it is in."""
        frame = (frames.STATE, number, document.pack())
        if threading.current_thread() is not threading.main_thread():
            self._write(frame)
            return
        self._busy = True
        try:
            self._write(frame)
        finally:
            self._busy = False
        if self._asked_to_look:
            self._look()

    # -- the pipe ------------------------------------------------------------------------------------

    def _on_look(self, signum: int, frame: Any) -> None:
        if self._busy:
            self._asked_to_look = True
        else:
            self._look()

    def _look(self) -> None:
        """Read what the parent has to say while a job runs, and hand over what is finished."""
        while True:
            self._busy = True
            self._asked_to_look = False
            try:
                while self._read(socket.MSG_DONTWAIT):
                    continue
                self._hand_over()
            finally:
                self._busy = False
            if not self._asked_to_look:
                break
        if self._overdue and self._overdue == self._current and _runs_user_code():
            self._interrupt()

    def _interrupt(self) -> None:
        """Raise the soft time limit in user code, once per job."""
        self._busy = True
        self._write((frames.INTERRUPTED, self._overdue))
        self._overdue = 0
        self._busy = False
        raise SoftTimeLimitExceeded

    def _read(self, flags: int = 0) -> bool:
        """Take in what has arrived; False when that is nothing (only with MSG_DONTWAIT)."""
        try:
            piece = self._sock.recv(PIECE, flags)
        except BlockingIOError:
            return False
        except OSError:
            piece = b""
        if not piece:
            self._is_cut_off = True
            self._ending = self._ending or "the parent is gone"
            return False
        for frame in self._reader.feed(piece):
            self._obey(frame)
        return True

    def _obey(self, frame: frames.Frame) -> None:
        kind = frame[0]
        if kind == frames.JOBS:
            self._queue.extend(frame[1])
        elif kind == frames.TAKE_BACK:
            self._give_back(frame[1])
        elif kind == frames.INTERRUPT:
            self._overdue = frame[1]
        elif kind == frames.STOP:
            self._ending = self._ending or "it was told to stop"

    def _write(self, frame: frames.Frame) -> None:
        content = frames.encode(frame)
        try:
            with self._writing:
                self._sock.sendall(content)
        except OSError:
            self._is_cut_off = True
            self._ending = self._ending or "the parent is gone"

    def _be_nobody(self) -> None:
        """Let go of the pipe, in a process that a task forked; should it ever leave the task, it ends."""
        self._is_copy = True
        self._writing = threading.Lock()  # a thread that does not exist here may hold the old one
        self._sock.close()


def _runs_user_code() -> bool:
    """Tell whether an exception may be raised here: in the task itself, not in what surrounds it."""
    request = worker_request()
    return request is not None and request.in_user_code
