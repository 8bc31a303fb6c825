"""The parent's book on one child: its pipe, the jobs it holds, and what is known of its state.

The pool opens a `ChildSlot` entry for each child that was born and strikes it out when the child is reaped;
a child that leaves may still be here while its successor already works. Everything is written by the
loop's thread.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from djqueue.messaging.startboard import StartBoard, Started
from djqueue.worker.pools import pacing
from djqueue.worker.pools.contract import Job
from djqueue.worker.pools.prefork import frames

PIECE = 65536
#: a child that does not react is signalled again after so many seconds, and then after twice as many
FIRST_LOOK = 0.1


class Line:
    """The parent's end of the pipe to a child: never blocks, keeps what the child does not take yet."""

    __slots__ = ("_reader", "_selector", "_sock", "_unsent", "_watcher", "is_open")

    def __init__(
        self, sock: socket.socket, selector: selectors.BaseSelector, watcher: Callable[[], None]
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._selector = selector
        self._watcher = watcher
        self._reader = frames.FrameReader()
        self._unsent: deque[memoryview] = deque()
        #: the other end has not hung up
        self.is_open = True
        selector.register(sock, selectors.EVENT_READ, watcher)

    def send(self, frame: frames.Frame) -> None:
        """Send the frame now or as soon as the child reads; one whose child is gone goes nowhere."""
        if not self.is_open:
            return
        was_waiting = bool(self._unsent)
        self._unsent.append(memoryview(frames.encode(frame)))
        if not was_waiting:
            self.flush()
            if self._unsent:
                self._watch(selectors.EVENT_READ | selectors.EVENT_WRITE)

    def flush(self) -> None:
        """Send what the child takes of what is waiting."""
        was_waiting = bool(self._unsent)
        while self._unsent:
            piece = self._unsent[0]
            try:
                sent = self._sock.send(piece)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # the child is gone; what it said last can still be read
                self._unsent.clear()
                break
            if sent < len(piece):
                self._unsent[0] = piece[sent:]
            else:
                self._unsent.popleft()
        if was_waiting and self.is_open:
            self._watch(selectors.EVENT_READ)

    def read(self) -> Iterator[frames.Frame]:
        """Return the frames that have arrived.

        Raises:
            BrokenStream: it was somebody else than the child's loop who wrote.
        """
        while self.is_open:
            try:
                piece = self._sock.recv(PIECE)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                piece = b""
            if not piece:
                self.close()
                return
            yield from self._reader.feed(piece)
            if len(piece) < PIECE:
                return

    def close(self) -> None:
        """Hang up. May be called twice."""
        if self.is_open:
            self.is_open = False
            self._unsent.clear()
            self._selector.unregister(self._sock)
            self._sock.close()

    def _watch(self, events: int) -> None:
        self._selector.modify(self._sock, events, self._watcher)


@dataclass(slots=True)
class Held:
    """A job in a child's hands: when it was sent (monotonic) and what it is taken to cost."""

    job: Job
    since: float
    cost: float


@dataclass(slots=True)
class Sentence:
    """A child is to be killed while it runs this job; `limit` is the hard limit when that is why."""

    number: int
    why: str
    limit: float | None = None


class ChildSlot:
    """One child as the parent sees it."""

    def __init__(self, slot: int, pid: int, line: Line, may_run: int | None) -> None:
        self.slot = slot
        self.pid = pid
        self.line = line
        self.born = time.monotonic()
        #: jobs it holds, in the order in which it runs them
        self.held: dict[int, Held] = {}
        self.load = 0.0  # what they are taken to cost together, seconds
        self.may_run = may_run  # how many more jobs it may be given, None for any number
        self.is_ready = False  # it said hello
        self.is_late = False  # it took so long that the log was told
        self.is_dismissed = False  # it was told to end after what it runs
        self.is_leaving = False  # it runs nothing more
        self.is_replaced = False  # its slot was given to another
        self.stuck_on = 0  # number of a job that takes longer than it should
        self.asked_back = False  # it was asked for its unstarted jobs and has not answered
        self.look_again_at = 0.0  # the earliest time to signal it again
        self.look_pause = FIRST_LOOK  # how long to wait after that, seconds
        self.interrupted = 0  # number of the last job that the soft limit was raised in
        self.told_overdue = 0  # number of the last job it was told to raise the soft limit in
        self.condemned: dict[int, Sentence] = {}  # jobs to be killed as soon as they run
        self.executed: Sentence | None = None  # SIGKILL was sent because of it
        self.is_garbled = False  # what came through its line were no frames
        self.ending_since: float | None = None  # it was seen leaving, or its line closed, at this time

    @property
    def takes_jobs(self) -> bool:
        """It is up, and not on its way out."""
        return (
            self.is_ready
            and not (self.is_dismissed or self.is_leaving or self.executed)
            and self.line.is_open
        )

    @property
    def is_stuck(self) -> bool:
        """It runs a job for longer than it should; nothing must be put behind it."""
        return self.stuck_on in self.held

    @property
    def is_idle(self) -> bool:
        """It could start a job at once."""
        return not self.held and self.takes_jobs and self.may_run != 0

    def room(self, pace: pacing.Pace) -> int:
        """Return how many more jobs it may be given."""
        if not self.takes_jobs or self.is_stuck:
            return 0
        room = pace.room(len(self.held), self.load)
        return room if self.may_run is None else min(room, self.may_run)

    def fits(self, cost: float) -> bool:
        """Return whether a job of this cost may be put behind what the child holds."""
        if self.may_run == 0:
            return False
        if not self.held:
            return True
        return (
            pacing.is_quick(cost)
            and self.load + cost <= pacing.READY_WORK
            and len(self.held) < pacing.MOST_HELD
        )

    def give(self, job: Job, cost: float, now: float) -> None:
        """Enter a job that is about to be sent."""
        self.held[job.number] = Held(job, now, cost)
        self.load += cost
        if self.may_run is not None:
            self.may_run -= 1

    def drop(self, number: int, *, ran: bool = True) -> Held | None:
        """Strike a job out and return it; None when the child does not hold it."""
        held = self.held.pop(number, None)
        if held is not None:
            self.load = self.load - held.cost if self.held else 0.0
            self.condemned.pop(number, None)
            if not ran and self.may_run is not None:
                self.may_run += 1
        return held

    def running(self, board: StartBoard) -> Started | None:
        """Return the job that the board says it runs, if that can be true.

        The child writes the board while we read it: what is half written does not repeat itself, or names
        a job that it does not hold, or a start before the job was sent.
        """
        started = board.read(self.slot)
        if started is None or started != board.read(self.slot):
            return None
        held = self.held.get(started.number)
        return started if held is not None and started.since >= held.since else None

    def split_at(self, number: int | None) -> tuple[list[Held], list[Held]]:
        """Return the jobs that have started and those that have not, when `number` was the last to start."""
        jobs = list(self.held.values())
        if number not in self.held:
            return [], jobs
        at = list(self.held).index(number) + 1
        return jobs[:at], jobs[at:]
