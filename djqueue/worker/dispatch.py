"""Hands jobs to the pool and makes settlements of what it reports back.

Entries come in from the loop; every one leaves as a settlement: ended, lost with its child, or given back.
This is the one place that knows what each report means for a delivery, so early and late acknowledgement,
crashes, time limits and shutdown are decided side by side.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from djqueue import states
from djqueue.conf import settings
from djqueue.core.registry import tasks
from djqueue.core.requests import attempt_number
from djqueue.exceptions import TaskRevokedError, TimeLimitExceeded, WorkerLostError
from djqueue.messaging.delivery import Settlement
from djqueue.result import records
from djqueue.result.documents import Document
from djqueue.tasks.abandonment import abandon
from djqueue.tasks.outcome import REJECT, REQUEUE, SETTLED, Outcome
from djqueue.worker.admission import Admission
from djqueue.worker.announcer import Announcer
from djqueue.worker.ledger import Entry, Ledger
from djqueue.worker.pools.contract import Finished, Lost, Pool, Report, Returned, StateUpdate
from djqueue.worker.settlement import Settler
from djqueue.worker.waiting_room import WaitingRoom

#: a task that ends sooner is never stored as STARTED, seconds: its end is there before anyone could look
STARTED_AFTER = 0.05
#: a task that killed its child is tried again at once, then after 1, 2, 4… seconds, at most so many
LONGEST_CRASH_PAUSE = 30.0


class Dispatcher:
    """Between the loop and the pool. Used by the loop's thread only."""

    def __init__(
        self,
        pool: Pool,
        ledger: Ledger,
        admission: Admission,
        settler: Settler,
        announcer: Announcer,
        worker: str,
    ) -> None:
        self._pool = pool
        self._ledger = ledger
        self._admission = admission
        self._settler = settler
        self._announcer = announcer
        self._worker = worker
        self._terminated: dict[int, str] = {}  # job number → signal, of those killed because revoked
        self._untold: set[int] = set()  # job numbers whose STARTED may still have to be stored
        #: set by the loop when the worker stops: what comes back unstarted is given back to the broker
        self.stopping = False
        self._taken_back: list[Entry] = []

    def submit(self, entries: Sequence[Entry]) -> None:
        """Hand the entries to the pool; those that acknowledge early are acknowledged first."""
        if self._admission.knows_revocations:
            entries = [entry for entry in entries if not self._end_if_revoked(entry)]
        entries = self._acknowledged(entries)
        jobs = []
        for entry in entries:
            entry.job.expected_runtime = self._ledger.expected_runtime(entry.job.name)
            jobs.append(entry.job)
            if self._tracks_started(entry) or self._announcer.tells_starts:
                self._untold.add(entry.number)
        if jobs:
            self._pool.submit(jobs)

    def take(self, reports: Sequence[Report]) -> None:
        """Deal with what the pool reports, in order."""
        for report in reports:
            entry = self._ledger.get(report.number)
            if entry is None:
                continue  # given back at the end of the grace period; another worker has it
            if isinstance(report, Finished):
                self._finished(entry, report.outcome)
            elif isinstance(report, StateUpdate):
                entry.started_told = True
                self._untold.discard(entry.number)
                self._settler.store(report.document)
            elif isinstance(report, Returned) or not report.started:
                self._returned(entry)
            else:
                self._lost(entry, report)

    def taken_back(self) -> list[Entry]:
        """Hand over what the pool gave back unstarted and is to be submitted again."""
        entries, self._taken_back = self._taken_back, []
        return entries

    def give_back(self, entry: Entry) -> None:
        """Give an entry that is not running back to its queue, uncounted."""
        self._close(entry)
        if not entry.delivery.settled:  # an early ack that may or may not have arrived is left to the broker
            self._settler.add(entry.delivery.release())

    def tell_started(self, now: float) -> None:
        """Store STARTED for what has been running for a while."""
        if not self._untold:
            return
        for started in self._pool.running():
            if started.number in self._untold and now - started.since >= STARTED_AFTER:
                self._untold.discard(started.number)
                entry = self._ledger.get(started.number)
                if entry is None:
                    continue
                self._announcer.started(entry, time.time() - (now - started.since))
                if not entry.started_told and self._tracks_started(entry):
                    entry.started_told = True
                    self._settler.store(self._started_document(entry, now - started.since))

    def seconds_to_tell_started(self) -> float:
        """Return in how many seconds `tell_started` should be called again."""
        return STARTED_AFTER if self._untold else float("inf")

    def end_revoked_unstarted(self, waiting_room: WaitingRoom) -> None:
        """End what was revoked and has not started, as far as that is known; the rest when it comes back."""
        for entry in waiting_room.take_out(lambda entry: self._admission.is_revoked(entry.request)):
            self._end_if_revoked(entry)
        running = {started.number for started in self._pool.running()}
        unstarted = (entry for entry in self._ledger if entry.number not in running)
        if any(self._admission.is_revoked(entry.request) for entry in unstarted):
            self._pool.take_back()

    def terminate(self, entry: Entry, signum: str) -> bool:
        """Kill the process that runs the task, which ends as REVOKED.

        Raises:
            NotImplementedError: the pool runs tasks where they cannot be killed.
        """
        self._terminated[entry.number] = signum
        if self._pool.terminate(entry.number, f"the task was revoked ({signum})"):
            return True
        del self._terminated[entry.number]
        raise NotImplementedError(
            f"{type(self._pool).__name__} cannot end a running task; use the prefork pool for that."
        )

    def kill_running(self, *, early_ones_too: bool) -> int:
        """Kill what runs, so that the worker can leave; return how many that were.

        Late-acknowledged tasks are given back, uncounted; early-acknowledged ones, which nobody would run
        again, are killed only with `early_ones_too` and end as FAILURE.
        """
        killed = 0
        for entry in self._ledger:
            if entry.acked and not early_ones_too:
                continue
            killed += 1
            if not self._pool.terminate(entry.number, "the worker was told to stop"):
                self._lost(entry, Lost(entry.number, True, "the worker was told to stop"))
        return killed

    def _acknowledged(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Acknowledge those that ask for it before they start; return the entries that may start."""
        early = [entry for entry in entries if not entry.acked and not self._acks_late(entry)]
        if not early:
            return entries
        acks = []
        for entry in early:
            entry.early_ack = entry.early_ack or entry.delivery.ack(early=True)
            acks.append(entry.early_ack)
        lost = self._settler.acknowledge_first(acks, time.monotonic())
        if lost is None:
            self._taken_back.extend(early)
            return [entry for entry in entries if entry not in early]
        for entry in early:
            entry.acked = True
            if entry.delivery in lost:
                self._close(entry)
        return [entry for entry in entries if entry.delivery not in lost]

    # -- what became of an entry ---------------------------------------------------------------------

    def _finished(self, entry: Entry, outcome: Outcome) -> None:
        self._close(entry)
        self._ledger.learn(entry.request.task, outcome.runtime)
        self._announcer.finished(entry, outcome)
        settlement: Settlement | None = None
        if not entry.acked:
            if outcome.settle == SETTLED:
                entry.delivery.settled = True
            elif outcome.settle == REQUEUE:
                settlement = entry.delivery.release()
            elif outcome.settle == REJECT:
                self._announcer.buried(entry.delivery, "rejected", outcome.summary)
                settlement = entry.delivery.bury("rejected", outcome.summary)
            else:
                settlement = entry.delivery.ack()
        self._settler.add(settlement, outcome)

    def _returned(self, entry: Entry) -> None:
        if self._end_if_revoked(entry):
            return
        if self.stopping:
            self.give_back(entry)
        else:
            self._taken_back.append(entry)

    def _end_if_revoked(self, entry: Entry) -> bool:
        """End an entry that does not run, if it was revoked; return whether it was."""
        if not self._admission.is_revoked(entry.request):
            return False
        self._close(entry)
        self._announcer.revoked(entry.request, "revoked")
        self._end_as_revoked(entry, "revoked")
        return True

    def _end_as_revoked(self, entry: Entry, why: str) -> None:
        error = TaskRevokedError(why)
        outcome = abandon(
            entry.request, entry.delivery.message, error, state=states.REVOKED, worker=self._worker
        )
        self._settler.add(None if entry.acked else entry.early_ack or entry.delivery.ack(), outcome)

    def _lost(self, entry: Entry, lost: Lost) -> None:
        terminated = self._terminated.get(entry.number)
        self._close(entry)
        request, delivery = entry.request, entry.delivery
        if terminated is not None:
            self._announcer.revoked(request, "terminated", terminated)
            self._end_as_revoked(entry, "terminated")
        elif lost.timed_out is not None:
            self._announcer.hard_limit(entry, lost.timed_out)
            self._fail(entry, TimeLimitExceeded(lost.timed_out))
        elif self.stopping and not entry.acked:
            self._settler.add(delivery.release())
        else:
            self._announcer.child_lost(entry, lost.cause)
            if entry.acked or not self._is_redelivered(entry):
                self._fail(entry, WorkerLostError(f"The task did not end: {lost.cause}."))
            elif delivery.starts + 1 >= settings.TASK_MAX_DELIVERIES:
                verdict = self._admission.give_up(
                    delivery, request, f"its last of {delivery.starts + 1} starts ended with: {lost.cause}"
                )
                self._settler.add(verdict.settlement, verdict.outcome)
            elif delivery.starts == 0:
                self._settler.add(delivery.release(started=True))
            else:
                pause = min(0.5 * 2**delivery.starts, LONGEST_CRASH_PAUSE)
                self._settler.add(delivery.delay(time.time() + pause, started=True))

    def _fail(self, entry: Entry, error: Exception) -> None:
        self._announcer.never_ran(entry.request, error)
        outcome = abandon(entry.request, entry.delivery.message, error, worker=self._worker)
        settlement = None if entry.acked else entry.delivery.ack()
        self._settler.add(settlement, outcome)

    def _close(self, entry: Entry) -> None:
        self._ledger.close(entry)
        self._terminated.pop(entry.number, None)
        self._untold.discard(entry.number)

    # -- what the task's options say -----------------------------------------------------------------

    def _acks_late(self, entry: Entry) -> bool:
        policy = self._admission.policy(entry.request.task)
        return policy is None or policy.acks_late

    def _is_redelivered(self, entry: Entry) -> bool:
        return tasks[entry.request.task].option("reject_on_worker_lost") is not False

    def _tracks_started(self, entry: Entry) -> bool:
        policy = self._admission.policy(entry.request.task)
        return policy is not None and policy.tracks_started and not entry.request.ignore_result

    def _started_document(self, entry: Entry, for_seconds: float) -> Document:
        request = entry.request
        meta = {"pid": self._pool.pid(entry.number), "hostname": self._worker}
        return Document(
            request.id,
            states.STARTED,
            json.dumps(meta),
            children=[],
            attempt=attempt_number(request.retries, entry.delivery.starts),
            retries=request.retries,
            date_started=time.time() - for_seconds,
            name=request.task,
            args=request.argsrepr,
            kwargs=request.kwargsrepr,
            worker=self._worker,
            queue=entry.delivery.queue,
            group_id=request.group,
            root_id=request.root_id,
            parent_id=request.parent_id,
            stamps=records.stamps_of(request),
            reply_to=request.reply_to,
            correlation_id=request.correlation_id,
        )
