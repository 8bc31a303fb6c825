"""Running one task: a message comes in, an `Outcome` leaves. This is what pools call.

One value, the `Run`, goes through named steps. Whatever user code raises is an outcome; what follows the task
(links, the next of a chain, a retry, error callbacks) is encoded here and sent by the worker, together with
the result and the acknowledgement.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from djqueue import signals, states
from djqueue.canvas import continuation
from djqueue.canvas.continuation import FollowUp
from djqueue.core.messages import WireMessage
from djqueue.core.protocol import read_body, read_headers, upgrade_v1
from djqueue.core.registry import tasks
from djqueue.core.reprs import safe_repr
from djqueue.core.requests import Request, running
from djqueue.core.serialization import serializer_of
from djqueue.exceptions import (
    ContentDisallowed,
    DecodeError,
    Ignore,
    InvalidTaskError,
    NotRegistered,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
    WorkerShutdown,
    WorkerTerminate,
)
from djqueue.result import records
from djqueue.result.documents import Document, encode_exception, encode_value
from djqueue.tasks import chords
from djqueue.tasks.abandonment import abandon
from djqueue.tasks.autoretry import retried
from djqueue.tasks.coroutines import run_coroutine
from djqueue.tasks.errbacks import call_or_find
from djqueue.tasks.failures import ExceptionInfo, clear_frames
from djqueue.tasks.following import Following, collect
from djqueue.tasks.outcome import ACK, REJECT, REQUEUE, Outcome
from djqueue.tasks.running import Running
from djqueue.tasks.transactional import NOTHING, TakenOver, committing, without_receipt
from djqueue.tasks.unit_of_work import UnitOfWork

logger = logging.getLogger("djqueue.task")

Report = Callable[[Document], None]


def perform(
    message: WireMessage,
    *,
    delivery_info: Mapping[str, Any] | None = None,
    starts: int = 0,
    worker: str | None = None,
    report: Report | None = None,
) -> Outcome:
    """Run the task that the message asks for, and return what became of it.

    `starts` counts earlier starts of the message, `worker` is the node's name, and `report` takes the states
    that the task sets while it runs.
    """
    receipt, delivery_info = without_receipt(delivery_info)
    try:
        if message.reading is None and "task" not in message.headers:
            message = upgrade_v1(message)
        request = read_headers(message, delivery_info, starts)
    except (InvalidTaskError, DecodeError, ContentDisallowed) as exc:
        return Outcome(states.REJECTED, settle=REJECT, summary=str(exc))
    request.hostname = worker
    task = tasks.get(request.task)
    if task is None:
        error = NotRegistered(request.task, tasks.near(request.task))
        outcome = abandon(request, message, error, worker=worker)
        outcome.settle = REJECT
        return outcome
    run = Run(task, request, report, receipt)
    with running(request), UnitOfWork():
        try:
            run.execute(message)
            run.announce_end()
        except SoftTimeLimitExceeded as exc:  # it came while the end of the task was being put together
            run.fail(exc)
            run.announce_end()
        except Exception as exc:  # not the task's: a store's serializer that does not exist, a bug here
            run.break_off(exc)
    return run.outcome


class Run:
    """One run of one task, from its arguments to its outcome."""

    __slots__ = (
        *("began", "error", "info", "outcome", "receipt", "report", "request", "runtime", "task", "value"),
    )

    def __init__(
        self, task: Running[Any, Any], request: Request, report: Report | None = None, receipt: str = ""
    ) -> None:
        self.task = task
        self.request = request
        self.report = report
        self.receipt = receipt  # of a task that commits with its message
        self.outcome = Outcome(states.IGNORED)
        self.value: Any = None  # what the task returned, or the exception it ended with
        self.error: BaseException | None = None
        self.info: ExceptionInfo | None = None
        self.began = time.time()
        self.runtime = 0.0
        request.report = self.set_state
        request.children = [] if task.trail else None

    def execute(self, message: WireMessage) -> None:
        """Go through all steps; afterwards `outcome` says what became of the task."""
        try:
            self.read_arguments(message)
        except (InvalidTaskError, DecodeError, ContentDisallowed) as exc:
            self.fail(exc)
            self.outcome.settle = REJECT
            return
        self.run_task()

    def run_task(self) -> None:
        """Call the task and put together its end; the arguments are known."""
        try:
            with committing(self, self.receipt) if self.receipt else NOTHING:
                self.announce_start()
                self.succeed(self.call())
        except Retry as retry:
            self.retry(retry)
        except Ignore as ignore:
            self.ignore(ignore)
        except Reject as reject:
            self.reject(reject)
        except (WorkerShutdown, WorkerTerminate):
            raise
        except BaseException as exc:
            self.fail(exc)

    # -- the steps -----------------------------------------------------------------------------------

    def read_arguments(self, message: WireMessage) -> None:
        """Open the body: arguments, and what is to follow."""
        request = self.request
        request.args, request.kwargs = (), {}
        request.args, request.kwargs, embed = read_body(message)
        request.callbacks = embed["callbacks"]
        request.errbacks = embed["errbacks"]
        request.chain = embed["chain"]
        request.chord = embed["chord"]
        request.serializer = serializer_of(message.content_type)
        if request.argsrepr is None:
            request.argsrepr = safe_repr(tuple(request.args))  # as senders write it
        if request.kwargsrepr is None:
            request.kwargsrepr = safe_repr(request.kwargs)

    def announce_start(self) -> None:
        """Tell the receivers of `task_prerun`, and the task itself."""
        task, request = self.task, self.request
        if signals.task_prerun.receivers:
            signals.task_prerun.send_robust(
                sender=task, task_id=request.id, task=task, args=request.args, kwargs=request.kwargs
            )
        task.before_start(request.id, request.args, request.kwargs)

    def call(self) -> Any:
        """Enter user code."""
        task, request = self.task, self.request
        body = task.body
        if body is task:
            request.is_entering = True
        called = time.perf_counter()
        try:
            request.in_user_code = True
            if task.is_coroutine():
                return run_coroutine(body, request.args, request.kwargs)
            return body(*request.args, **request.kwargs)
        except BaseException as exc:
            decided = retried(task, exc)
            if decided is exc:
                raise
            raise decided from exc
        finally:
            request.in_user_code = False
            self.runtime = time.perf_counter() - called

    def succeed(self, value: Any) -> None:
        """Encode the result and what follows; a result or follow-up that cannot be written is a failure."""
        task, request = self.task, self.request
        ignored = self._ignores_result()
        encoded = None if ignored and not request.chord else encode_value(value)
        following = continuation.after_success(request, value) if request.callbacks or request.chain else []
        followed_by = self.collect(self._asked(following), request.__dict__.get("retries_asked", ()))
        self.value = value
        document = None
        if encoded is not None and not ignored:
            document = records.record(request, states.SUCCESS, encoded, started=self.began)
        self.end(states.SUCCESS, document, followed_by, summary=safe_repr(value, task.resultrepr_maxsize))
        if encoded is not None and request.chord:
            self.outcome.parts += chords.parts_of(request, states.SUCCESS, encoded)
        self._guarded(task.on_success, value, request.id, request.args, request.kwargs)
        if signals.task_success.receivers:
            signals.task_success.send_robust(sender=task, result=value)

    def retry(self, retry: Retry) -> None:
        """Encode the next try's message."""
        task, request = self.task, self.request
        try:
            if retry.sig is None:  # raised by hand: as if the task had asked for it
                retry.sig = task.signature_from_request(request, countdown=task.option("default_retry_delay"))
            followed_by = self.collect([], (retry,))
        except Exception as exc:  # new arguments that cannot be written, options that do not exist
            self.fail(exc)
            return
        reason = retry.exc or retry
        self.error = self.value = retry
        self.info = ExceptionInfo(retry)
        document = None
        if not self._ignores_result():
            document = records.record(
                request,
                states.RETRY,
                encode_exception(reason),
                traceback=self.info.traceback,
                started=self.began,
            )
        self.end(states.RETRY, document, followed_by, summary=str(retry))
        self._guarded(task.on_retry, reason, request.id, request.args, request.kwargs, self.info)
        signals.task_retry.send_robust(sender=task, request=request, reason=reason, einfo=self.info)

    def fail(self, exc: BaseException) -> None:
        """Encode the exception, and tell whoever wanted to know."""
        task, request = self.task, self.request
        self.error = self.value = exc
        info = self.info = ExceptionInfo(exc)
        followed_by = self.collect(self._asked(call_or_find(request, exc, info.traceback)))
        encoded = encode_exception(exc)
        stored = not self._ignores_result() or task.option("store_errors_even_if_ignored")
        document = None
        if stored:
            document = records.record(
                request, states.FAILURE, encoded, traceback=info.traceback, started=self.began
            )
        summary = safe_repr(exc, task.resultrepr_maxsize)
        self.end(states.FAILURE, document, followed_by, summary=summary, settle=self._settles(exc))
        outcome = self.outcome
        outcome.traceback = info.traceback
        outcome.expected = isinstance(exc, task.option("throws"))
        if request.chain or request.chord:
            outcome.never_run += chords.never_run(request, encoded, info.traceback)
            outcome.parts += chords.parts_of(request, states.FAILURE, encoded, later=True)
        self._guarded(task.on_failure, exc, request.id, request.args, request.kwargs, info)
        self._tell_failure(exc, info)

    def ignore(self, ignore: Ignore) -> None:
        """Send what the task replaced itself by; a task that just ends counts in its chord as failed."""
        request = self.request
        try:
            followed_by = self.collect(self._asked([]))
        except Exception as exc:  # arguments of the replacement that cannot be written
            self.fail(exc)
            return
        self.end(states.IGNORED, None, followed_by)
        if not (request.__dict__.get("replaced") or isinstance(ignore, TakenOver)):
            encoded = encode_exception(ignore)
            self.outcome.parts += chords.parts_of(request, states.FAILURE, encoded, later=True)

    def reject(self, reject: Reject) -> None:
        """Give the message back to its queue, or let it be kept as a dead letter and count as failed."""
        request = self.request
        if reject.requeue:
            self.end(states.REJECTED, None, summary=str(reject), settle=REQUEUE)
            return
        self.error = self.value = reject
        self.info = ExceptionInfo(reject)
        encoded = encode_exception(reject)
        document = None
        if not self._ignores_result():
            document = records.record(request, states.FAILURE, encoded, started=self.began)
        self.end(states.REJECTED, document, summary=str(reject), settle=REJECT)
        self.outcome.parts += chords.parts_of(request, states.FAILURE, encoded, later=True)
        self._tell_failure(reject, self.info)

    def announce_end(self) -> None:
        """Tell the task and the receivers of `task_postrun`, whatever became of it."""
        task, request, outcome = self.task, self.request, self.outcome
        if outcome.state in (states.SUCCESS, states.FAILURE):
            self._guarded(
                task.after_return,
                outcome.state,
                self.value,
                request.id,
                request.args,
                request.kwargs,
                self.info,
            )
        if signals.task_postrun.receivers:
            signals.task_postrun.send_robust(
                sender=task,
                task_id=request.id,
                task=task,
                args=request.args,
                kwargs=request.kwargs,
                retval=self.value,
                state=outcome.state,
            )
        if self.error is not None and not request.is_eager:
            clear_frames(self.error)

    # -- inside the steps ----------------------------------------------------------------------------

    def set_state(self, state: str, meta: Any) -> None:
        """Report a state that the task sets while it runs."""
        if self.report is not None:
            encoded = records.encode_state(state, meta)
            self.report(records.record(self.request, state, encoded, started=self.began))

    def _asked(self, following: list[FollowUp]) -> list[FollowUp]:
        """Return what follows, after what the task itself asked to be sent with its end."""
        asked = self.request.__dict__.get("follow_ups_asked")
        return [*asked, *following] if asked else following

    def collect(self, following: Iterable[FollowUp], retries: Iterable[Retry] = ()) -> Following:
        """Return the messages of what follows; they leave with the outcome."""
        return collect(following, retries)

    def end(
        self,
        state: str,
        document: Document | None,
        followed_by: Following | None = None,
        *,
        summary: str = "",
        settle: str = ACK,
    ) -> None:
        """Make the outcome."""
        self.outcome = outcome = Outcome(state, document, settle=settle, summary=summary)
        outcome.runtime = self.runtime
        if followed_by is not None:
            outcome.follow_ups = followed_by.messages
            outcome.openings = followed_by.openings
            brought = self.request.__dict__.get("brought_about")
            if brought is not None:
                outcome.absorb(brought)

    def break_off(self, exc: Exception) -> None:
        """End a run in which djqueue itself failed: the message is kept as a dead letter."""
        request = self.request
        logger.critical("Task %s[%s] could not be ended: %r", request.task, request.id, exc, exc_info=exc)
        info = ExceptionInfo(exc)
        signals.task_internal_error.send_robust(
            sender=self.task,
            task_id=request.id,
            args=request.args,
            kwargs=request.kwargs,
            request=request,
            exception=exc,
            traceback=info.tb,
            einfo=info,
        )
        self.end(states.FAILURE, None, summary=safe_repr(exc), settle=REJECT)
        self.outcome.traceback = info.traceback

    def _settles(self, exc: BaseException) -> str:
        """Return what becomes of the message of a task that failed with `exc`."""
        is_timeout = isinstance(exc, SoftTimeLimitExceeded)
        task = self.task
        acks = task.option("acks_on_timeout" if is_timeout else "acks_on_failure")
        return ACK if acks or not task.option("acks_late") else REJECT

    def _ignores_result(self) -> bool:
        """Return whether nobody wants the result: the call says so, else the task."""
        ignored = self.request.ignore_result
        return bool(self.task.option("ignore_result") if ignored is None else ignored)

    def _tell_failure(self, exc: BaseException, info: ExceptionInfo) -> None:
        """Tell the receivers of `task_failure`."""
        request = self.request
        signals.task_failure.send_robust(
            sender=self.task,
            task_id=request.id,
            exception=exc,
            args=request.args,
            kwargs=request.kwargs,
            traceback=info.tb,
            einfo=info,
        )

    def _guarded(self, handler: Callable[..., None], *args: Any) -> None:
        """Call a handler of the task; what it raises is logged and changes nothing."""
        try:
            handler(*args)
        except Exception:
            logger.exception("%s of task %s[%s] raised", handler.__name__, self.task.name, self.request.id)
