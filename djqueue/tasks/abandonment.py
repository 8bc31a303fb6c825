"""Ending a task that is not run, or whose process is gone: what the worker's main process does about it.

A request, its message and the reason come in; an `Outcome` leaves with the document to store and the messages
to error callbacks. The body is opened only here, and no user code is called.
"""

from __future__ import annotations

from djqueue import signals, states
from djqueue.core.messages import Outgoing, WireMessage
from djqueue.core.protocol import read_body
from djqueue.core.registry import tasks
from djqueue.core.reprs import safe_repr
from djqueue.core.requests import Request, running
from djqueue.exceptions import DjqueueError
from djqueue.result.documents import encode_exception
from djqueue.tasks import records
from djqueue.tasks.errbacks import find
from djqueue.tasks.following import collect
from djqueue.tasks.outcome import Outcome


def abandon(
    request: Request,
    message: WireMessage,
    error: BaseException,
    *,
    state: str = states.FAILURE,
    worker: str | None = None,
) -> Outcome:
    """Return the outcome of a task that ends with `error` without having returned or raised.

    `state` is FAILURE, or REVOKED, which no error callback hears of.
    """
    task = tasks.get(request.task) if request.task else None
    document = None
    if not _ignores_errors(request):
        document = records.record(request, state, encode_exception(error), worker=worker)
    outcome = Outcome(state, document, summary=safe_repr(error))
    if state == states.FAILURE:
        outcome.follow_ups = _tell_error_callbacks(request, message, error)
        outcome.never_run = records.never_run(request, error, None)
        if task is not None:
            signals.task_failure.send_robust(
                sender=task,
                task_id=request.id,
                exception=error,
                args=request.args,
                kwargs=request.kwargs,
                traceback=None,
                einfo=None,
            )
    return outcome


def _tell_error_callbacks(request: Request, message: WireMessage, error: BaseException) -> list[Outgoing]:
    try:
        request.args, request.kwargs, embed = read_body(message)
    except DjqueueError:  # then nobody can know whom to tell
        return []
    request.errbacks, request.chain = embed["errbacks"], embed["chain"]
    if not request.errbacks:
        return []
    with running(request):
        return collect(request, find(request, error, None))


def _ignores_errors(request: Request) -> bool:
    task = tasks.get(request.task) if request.task else None
    ignored = request.ignore_result
    if ignored is None:
        ignored = task is not None and task.option("ignore_result")
    return bool(ignored) and not (task is not None and task.option("store_errors_even_if_ignored"))
