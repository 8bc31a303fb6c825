"""Tells the world what happened to tasks: the log, and whoever listens to the signals.

The loop and the settlement call one method per happening; nothing on the walk of a task formats a line or
knows who listens.
"""

from __future__ import annotations

import time
from typing import Any

from djqueue import signals, states
from djqueue.core.reprs import safe_repr
from djqueue.core.requests import Request
from djqueue.messaging.delivery import Delivery
from djqueue.tasks.outcome import REQUEUE, Outcome
from djqueue.worker import log_lines
from djqueue.worker.eventstream import EventStream
from djqueue.worker.ledger import Entry


class Announcer:
    """One method per happening. Used by the loop's thread only."""

    def __init__(self, sender: Any, events: EventStream) -> None:
        self._sender = sender
        self._events = events
        self._task_lines = log_lines.wants_task_lines()

    @property
    def tells_starts(self) -> bool:
        """Whether monitors want to know when tasks start."""
        return self._events.is_on

    def stopping(self, because: str, running: int, grace: float | None) -> None:
        """The worker was told to stop."""
        log_lines.stopping(because, running, grace)
        signals.worker_shutting_down.send_robust(sender=self._sender, sig=because, how="warm", exitcode=0)

    def received(self, entry: Entry) -> None:
        """A delivery was admitted."""
        if self._task_lines:
            log_lines.received(entry.request.task, entry.request.id)
        if signals.task_received.receivers:
            signals.task_received.send_robust(sender=self._sender, request=entry.request)
        if self._events.is_on:
            self._tell_received(entry.request)

    def started(self, entry: Entry, when: float) -> None:
        """User code was entered at `when`, seconds since the epoch; told once, sooner or later."""
        if not entry.start_announced:
            entry.start_announced = True
            self._events.task("task-started", entry.request.id, timestamp=when)

    def finished(self, entry: Entry, outcome: Outcome) -> None:
        """User code ended."""
        if self._events.is_on:
            self._tell_finished(entry, outcome)
        name, task_id, state = entry.request.task, entry.request.id, outcome.state
        if state == states.SUCCESS:
            if self._task_lines:
                log_lines.succeeded(name, task_id, outcome.runtime, outcome.summary)
        elif state == states.FAILURE and outcome.expected:
            log_lines.failed_as_expected(name, task_id, outcome.summary)
        elif state == states.FAILURE:
            log_lines.failed(name, task_id, outcome.summary, outcome.traceback)
        elif state == states.RETRY:
            log_lines.retried(name, task_id, outcome.summary)
        elif state == states.IGNORED:
            log_lines.ignored(name, task_id)
        elif state == states.REJECTED:
            log_lines.rejected(name, task_id, outcome.summary)

    def child_lost(self, entry: Entry, cause: str) -> None:
        """The child died while it ran the task."""
        log_lines.child_lost(cause, entry.request.task, entry.request.id, entry.delivery.starts + 1)

    def hard_limit(self, entry: Entry, limit: float) -> None:
        """The child was killed at the task's hard time limit of `limit` seconds."""
        log_lines.hard_limit(entry.request.task, entry.request.id, limit)

    def unknown(self, delivery: Delivery, name: str, task_id: str) -> None:
        """A message names a task that no module here declares."""
        log_lines.unknown(name, task_id)
        signals.task_unknown.send_robust(
            sender=self._sender, message=delivery.message, exc=None, name=name, id=task_id
        )

    def passed_on(self, request: Request, pause: float) -> None:
        """A task that no module here declares goes back to its queue, for another worker."""
        log_lines.passed_on(request.task, request.id, pause)

    def revoked(self, request: Request, why: str, signum: str | None = None) -> None:
        """A task came too late ("expired"), was not wanted ("revoked"), or was killed ("terminated")."""
        log_lines.revoked(request.task, request.id, why)
        facts = {"terminated": why == "terminated", "signum": signum, "expired": why == "expired"}
        signals.task_revoked.send_robust(sender=self._sender, request=request, **facts)
        self._events.task("task-revoked", request.id, **facts)

    def never_ran(self, request: Request, error: Exception) -> None:
        """A task failed without having run to an end: no module declares it, or it killed its process."""
        self._events.task("task-failed", request.id, exception=safe_repr(error), traceback=None)

    def buried(self, delivery: Delivery, reason: str, detail: str) -> None:
        """A message was put aside as a dead letter."""
        log_lines.dead(reason, _id_of(delivery), delivery.queue, detail)
        signals.task_rejected.send_robust(sender=self._sender, message=delivery.message, exc=None)

    def lost_lease(self, delivery: Delivery) -> None:
        """Another worker had taken the delivery over before it was settled here."""
        log_lines.lost_lease(_id_of(delivery), delivery.queue)

    # -- as events -----------------------------------------------------------------------------------

    def _tell_received(self, request: Request) -> None:
        self._events.task(
            "task-received",
            request.id,
            name=request.task,
            args=request.argsrepr,
            kwargs=request.kwargsrepr,
            root_id=request.root_id,
            parent_id=request.parent_id,
            retries=request.retries,
            eta=request.eta,
            expires=request.expires,
        )

    def _tell_finished(self, entry: Entry, outcome: Outcome) -> None:
        task_id, state = entry.request.id, outcome.state
        self.started(entry, time.time() - outcome.runtime)
        if state == states.SUCCESS:
            self._events.task("task-succeeded", task_id, result=outcome.summary, runtime=outcome.runtime)
        elif state in (states.FAILURE, states.RETRY):
            kind, summary = "task-failed", outcome.summary
            if state == states.RETRY:
                kind, summary = "task-retried", _cause_of(summary)
            self._events.task(kind, task_id, exception=summary, traceback=outcome.traceback)
        elif state == states.REJECTED:
            self._events.task("task-rejected", task_id, requeue=outcome.settle == REQUEUE)


def _cause_of(retry: str) -> str:
    """Return the exception that is behind a retry, from the retry's text."""
    when, colon, cause = retry.partition(": ")
    return cause if colon and when.startswith(("Retry in ", "Retry at ")) else retry


def _id_of(delivery: Delivery) -> str:
    headers = delivery.message.headers
    return str(headers.get("id")) if isinstance(headers, dict) else "none"
