"""Decides what becomes of each delivery, from its headers alone: run it, let it wait, or answer it now.

A delivery comes in from the source; a `Verdict` leaves for the loop. Bodies stay bytes, except for protocol 1
messages, whose headers are inside the body, and for the rare task that ends here and has error callbacks.
Whatever is wrong with a message is answered here with a reason, and never raises.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum, auto

from djqueue import states
from djqueue.conf import settings
from djqueue.core import protocol, protocol1
from djqueue.core.ratelimits import TokenBucket
from djqueue.core.registry import tasks
from djqueue.core.requests import Request
from djqueue.core.stamps import marks_on
from djqueue.exceptions import (
    ContentDisallowed,
    DecodeError,
    InvalidTaskError,
    NotRegistered,
    TaskRevokedError,
    WorkerLostError,
)
from djqueue.messaging import brokers
from djqueue.messaging.contract import Capabilities
from djqueue.messaging.delivery import Delivery, Settlement
from djqueue.tasks.abandonment import abandon
from djqueue.tasks.options import TRANSACTIONAL
from djqueue.tasks.outcome import Outcome
from djqueue.tasks.task import Task
from djqueue.tasks.transactional import RECEIPT
from djqueue.worker.announcer import Announcer
from djqueue.worker.ledger import Entry, Ledger
from djqueue.worker.passing import passed_on
from djqueue.worker.revocations import Revocations

#: a task that is due in less is held here instead of going back to the broker, seconds
SHORT_WAIT = 1.0


class What(Enum):
    """What the loop does with a judged delivery."""

    RUN = auto()
    WAIT = auto()
    ANSWER = auto()


@dataclass(slots=True)
class Verdict:
    """The decision on one delivery.

    RUN and WAIT have an `entry` with its job (WAIT: not before `until`, monotonic seconds). ANSWER has the
    settlement, and the outcome to store and send first.
    """

    what: What
    entry: Entry | None = None
    until: float = 0.0
    settlement: Settlement | None = None
    outcome: Outcome | None = None


@dataclass(slots=True)
class TaskPolicy:
    """What admission has to know of one task, read once from its options and the settings."""

    acks_late: bool
    is_transactional: bool
    soft_limit: float | None
    hard_limit: float | None
    bucket: TokenBucket | None
    tracks_started: bool

    @classmethod
    def of(cls, task: Task, soft_limit: float | None, hard_limit: float | None) -> TaskPolicy:
        """Return the policy of `task`; the limits given are the worker's defaults."""
        rate = None if settings.WORKER_DISABLE_RATE_LIMITS else task.option("rate_limit")
        own_soft, own_hard = task.option("soft_time_limit"), task.option("time_limit")
        is_transactional = task.option("ack") == TRANSACTIONAL
        return cls(
            acks_late=is_transactional or task.option("acks_late"),
            is_transactional=is_transactional,
            soft_limit=soft_limit if own_soft is None else own_soft,
            hard_limit=hard_limit if own_hard is None else own_hard,
            bucket=TokenBucket.from_rate(rate) if rate else None,
            # Where the task's transaction keeps everybody from writing, telling of it would wait for its end.
            tracks_started=task.option("track_started")
            and not task.option("ignore_result")
            and not (is_transactional and _has_one_writer()),
        )


class Admission:
    """Judges deliveries. Used by the loop's thread only.

    `soft_limit` and `hard_limit` are the worker's default time limits in seconds; `capabilities` are the
    broker's.
    """

    def __init__(
        self,
        ledger: Ledger,
        announcer: Announcer,
        worker: str,
        revocations: Revocations,
        *,
        capabilities: Capabilities,
        soft_limit: float | None = None,
        hard_limit: float | None = None,
    ) -> None:
        self._ledger = ledger
        self._announcer = announcer
        self._worker = worker
        self._revocations = revocations
        self._can_delay = capabilities.delays
        #: others may consume the queues, and a message can wait until they look
        self._can_pass_on = capabilities.delays and not capabilities.in_process
        self._default_limits = (soft_limit, hard_limit)
        self._policies: dict[str, TaskPolicy] = {}

    def judge(self, delivery: Delivery) -> Verdict:
        """Return the decision on `delivery`."""
        try:
            headers = delivery.message.headers
            if not isinstance(headers, dict) or "task" not in headers:
                delivery.message = protocol1.upgrade(delivery.message)
            request = protocol.read_headers(delivery.message, delivery.delivery_info(), delivery.starts)
            expires_at, due_at = protocol.expires_at(request), protocol.due_at(request)
        except (InvalidTaskError, DecodeError, ContentDisallowed) as error:
            return self._refuse(delivery, "invalid_envelope", error)
        now = time.time()
        if self.is_revoked(request):
            return self._revoke(delivery, request, "revoked")
        policy = self.policy(request.task)
        if policy is None:
            return self._pass_on(delivery, request)
        if delivery.starts >= settings.TASK_MAX_DELIVERIES:
            return self.give_up(delivery, request, f"it was started {delivery.starts} times and never ended")
        if expires_at is not None and expires_at <= now:
            return self._revoke(delivery, request, "expired")
        if due_at is not None and due_at - now > SHORT_WAIT and self._can_delay:
            return Verdict(What.ANSWER, settlement=delivery.delay(due_at))
        return self._admit(delivery, request, policy, max((due_at or now) - now, 0.0))

    @property
    def knows_revocations(self) -> bool:
        """Whether any task at all was revoked."""
        return bool(self._revocations)

    def is_revoked(self, request: Request) -> bool:
        """Return whether somebody revoked the task, or a stamp that it carries."""
        if not self._revocations:
            return False
        if request.id in self._revocations:
            return True
        marks = marks_on(request.stamped_headers, request.stamps)
        return any(mark in self._revocations for mark in marks)

    def set_rate(self, name: str, rate: str | int | float | None) -> bool:
        """Start the task called `name` at this rate from now on; False if no module declares it.

        Raises:
            ValueError: the rate cannot be read.
        """
        bucket = TokenBucket.from_rate(rate)
        policy = self.policy(name)
        if policy is None:
            return False
        policy.bucket = None if settings.WORKER_DISABLE_RATE_LIMITS else bucket
        tasks[name].rate_limit = rate or None
        return True

    def set_limits(self, name: str, *, soft: float | None, hard: float | None) -> bool:
        """Give the task called `name` these time limits in seconds; False if no module declares it."""
        policy = self.policy(name)
        if policy is None:
            return False
        policy.soft_limit, policy.hard_limit = soft, hard
        return True

    def policy(self, name: str) -> TaskPolicy | None:
        """Return the policy of the task called `name`, or None when no module declares it."""
        policy = self._policies.get(name)
        if policy is None and name in tasks:
            policy = self._policies[name] = TaskPolicy.of(tasks[name], *self._default_limits)
        return policy

    def forget_policies(self) -> None:
        """Read the tasks' options anew; rates and limits set by remote control are forgotten."""
        self._policies.clear()

    def give_up(self, delivery: Delivery, request: Request, why: str) -> Verdict:
        """Return the verdict on a task that kills whoever runs it: FAILURE, and kept as a dead letter."""
        return self._end(
            delivery, request, WorkerLostError(f"The task was given up: {why}."), "max_deliveries"
        )

    def put_aside(self, delivery: Delivery, reason: str) -> Outcome | None:
        """Tell of a message that its source could not read and buried; return the outcome for its sender."""
        return self._refusal(delivery, reason, DecodeError("The message cannot be read; it was put aside."))

    def _admit(self, delivery: Delivery, request: Request, policy: TaskPolicy, wait: float) -> Verdict:
        hard, soft = protocol.time_limits(request)
        entry = self._ledger.open(
            delivery,
            request,
            soft_limit=policy.soft_limit if soft is None else soft,
            hard_limit=policy.hard_limit if hard is None else hard,
        )
        if policy.is_transactional:
            entry.job.delivery_info = {**entry.job.delivery_info, RECEIPT: delivery.receipt}
        self._announcer.received(entry)
        if policy.bucket is not None:
            wait = max(wait, policy.bucket.take(time.monotonic() + wait))
        if wait > 0:
            return Verdict(What.WAIT, entry, until=time.monotonic() + wait)
        return Verdict(What.RUN, entry)

    def _pass_on(self, delivery: Delivery, request: Request) -> Verdict:
        """Let another worker see a task that nobody here knows; it ends when that was done often enough."""
        again = passed_on(delivery) if self._can_pass_on else None
        if again is None:
            self._announcer.unknown(delivery, request.task, request.id)
            return self._end(delivery, request, NotRegistered(request.task), "unknown_task")
        outcome, pause = again
        self._announcer.passed_on(request, pause)
        return Verdict(What.ANSWER, settlement=delivery.ack(), outcome=outcome)

    def _refuse(self, delivery: Delivery, reason: str, error: Exception) -> Verdict:
        outcome = self._refusal(delivery, reason, error)
        return Verdict(What.ANSWER, settlement=delivery.bury(reason, str(error)), outcome=outcome)

    def _refusal(self, delivery: Delivery, reason: str, error: Exception) -> Outcome | None:
        """Tell of a dead letter; return the outcome for its sender, if it is known which task it was."""
        self._announcer.buried(delivery, reason, str(error))
        task_id = protocol.readable_id(delivery.message)
        if task_id is None:
            return None
        request = Request(id=task_id, task=None, delivery_info=delivery.delivery_info())
        return abandon(request, delivery.message, error, worker=self._worker)

    def _revoke(self, delivery: Delivery, request: Request, why: str) -> Verdict:
        self._announcer.revoked(request, why)
        return self._end(delivery, request, TaskRevokedError(why))

    def _end(
        self, delivery: Delivery, request: Request, error: Exception, bury_reason: str | None = None
    ) -> Verdict:
        state = states.REVOKED if isinstance(error, TaskRevokedError) else states.FAILURE
        if state == states.FAILURE:
            self._announcer.never_ran(request, error)
        outcome = abandon(request, delivery.message, error, state=state, worker=self._worker)
        if bury_reason is None:
            settlement = delivery.ack()
        else:
            self._announcer.buried(delivery, bury_reason, str(error))
            settlement = delivery.bury(bury_reason, str(error))
        return Verdict(What.ANSWER, settlement=settlement, outcome=outcome)


def _has_one_writer() -> bool:
    transactions = brokers.broker().transactions
    return transactions is not None and transactions.has_one_writer
