"""Watches over the children by the clock: time limits, jobs stuck behind a long one, children that hang.

The pool shows it every child now and then; it reads from the board what runs there and since when, and
answers in how many seconds it has to see the child again. All clocks are the parent's own, monotonic.
"""

from __future__ import annotations

import math
import signal

from djqueue.messaging.startboard import StartBoard, Started
from djqueue.worker import log_lines
from djqueue.worker.pools import pacing
from djqueue.worker.pools.prefork import frames
from djqueue.worker.pools.prefork.child import LOOK
from djqueue.worker.pools.prefork.nursery import Nursery
from djqueue.worker.pools.prefork.slots import ChildSlot, Held, Sentence

#: a job that runs so much longer than expected holds up what is behind it
STUCK_AFTER, STUCK_FACTOR = 0.02, 4.0
#: the longest pause between two signals to a child that does not react, seconds
LAST_LOOK = 2.0
#: a child that starts nothing although it was given a job so long ago is not asked every few ms, seconds
SILENCE = 0.5
#: a child that is not ready after so many seconds is told of in the log, once
HELLO = 10.0
#: a child whose line is closed, and one that said goodbye, must be gone after so many seconds
HUNG_UP, LEAVING = 0.5, 10.0
#: a child that SIGKILL was sent to is looked at again after so many seconds
KILLED = 1.0


class Warden:
    """Used by the loop's thread only."""

    def __init__(self, board: StartBoard, nursery: Nursery) -> None:
        self._board = board
        self._nursery = nursery

    def look_after(self, child: ChildSlot, now: float, *, is_anyone_idle: bool) -> float:
        """Do what is due for the child; return in how many seconds to come again."""
        if child.executed:
            return KILLED
        if not child.line.is_open:
            return self._wait_for_end(child, now, HUNG_UP)
        if child.is_leaving:
            return self._wait_for_end(child, now, LEAVING)
        if not child.is_ready:
            return self._wait_for_hello(child, now)
        if not child.held:
            return math.inf
        started = child.running(self._board)
        if started is None:
            newest = next(reversed(child.held.values())).since
            return min(STUCK_AFTER if now - newest < SILENCE else SILENCE, self._shortest_limit(child))
        held = child.held[started.number]
        ran = now - started.since
        sentence = self._sentence(child, held, ran)
        if sentence:
            self.execute(child, sentence)
            return KILLED
        pause = min(
            self._keep_soft_limit(child, held, ran, now),
            self._free_what_is_stuck(child, started, ran, now, is_anyone_idle),
            self._shortest_limit(child) if len(child.held) > 1 else math.inf,
        )
        if held.job.hard_limit:
            pause = min(pause, held.job.hard_limit - ran)
        return pause

    def execute(self, child: ChildSlot, sentence: Sentence) -> None:
        """Kill the child."""
        child.executed = sentence
        self._nursery.signal(child.pid, signal.SIGKILL)

    def make_look(self, child: ChildSlot, now: float) -> float:
        """Signal the child to look at its pipe, unless that was just done; return when to come again."""
        if now >= child.look_again_at:
            self._nursery.signal(child.pid, LOOK)
            child.look_again_at = now + child.look_pause
            child.look_pause = min(child.look_pause * 2, LAST_LOOK)
        return child.look_again_at - now

    def ask_back(self, child: ChildSlot, numbers: list[int] | None, now: float) -> None:
        """Ask the child for unstarted jobs, all of them when `numbers` is None."""
        child.line.send((frames.TAKE_BACK, numbers))
        child.asked_back = True
        child.look_again_at = 0.0
        self.make_look(child, now)

    def _wait_for_hello(self, child: ChildSlot, now: float) -> float:
        if child.is_late:
            return math.inf
        left = child.born + HELLO - now
        if left > 0:
            return left
        child.is_late = True
        log_lines.child_late(child.pid, HELLO)
        return math.inf

    def _wait_for_end(self, child: ChildSlot, now: float, patience: float) -> float:
        if child.ending_since is None:
            child.ending_since = now
        left = child.ending_since + patience - now
        if left > 0:
            return left
        self.execute(child, Sentence(0, "it did not end by itself"))
        return KILLED

    def _sentence(self, child: ChildSlot, held: Held, ran: float) -> Sentence | None:
        job = held.job
        if job.hard_limit and ran >= job.hard_limit:
            return Sentence(job.number, f"its time limit of {job.hard_limit:g} s was over", job.hard_limit)
        return child.condemned.get(job.number)

    def _keep_soft_limit(self, child: ChildSlot, held: Held, ran: float, now: float) -> float:
        job = held.job
        if not job.soft_limit or child.interrupted == job.number:
            return math.inf
        if ran < job.soft_limit:
            return job.soft_limit - ran
        if child.told_overdue != job.number:
            child.told_overdue = job.number
            child.line.send((frames.INTERRUPT, job.number))
            child.look_again_at = 0.0
        return self.make_look(child, now)

    def _free_what_is_stuck(
        self, child: ChildSlot, started: Started, ran: float, now: float, is_anyone_idle: bool
    ) -> float:
        """Let nothing wait behind a job that takes longer than it should."""
        held = child.held[started.number]
        if len(child.held) == 1 and not pacing.is_quick(held.cost):
            return math.inf
        allowed = max(STUCK_AFTER, STUCK_FACTOR * held.job.expected_runtime)
        if ran < allowed:
            return allowed - ran
        child.stuck_on = started.number
        done, unstarted = child.split_at(started.number)
        if unstarted and is_anyone_idle and not child.asked_back:
            self.ask_back(child, None, now)
        if len(done) > 1 or child.asked_back:
            return self.make_look(child, now)
        return math.inf

    def _shortest_limit(self, child: ChildSlot) -> float:
        """Return the shortest time limit among the child's jobs: any of them may have just started."""
        return min(
            (
                limit
                for held in child.held.values()
                for limit in (held.job.soft_limit, held.job.hard_limit)
                if limit
            ),
            default=math.inf,
        )
