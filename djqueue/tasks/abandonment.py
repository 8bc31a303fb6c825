"""Ending a task that is not run, or whose process is gone: what the worker's main process does about it.

A request, its message and the reason come in; an `Outcome` leaves with the document to store and the messages
to error callbacks. The body is opened only here, and no user code is called.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from djqueue import signals, states
from djqueue.core.messages import WireMessage
from djqueue.core.protocol import read_body
from djqueue.core.registry import tasks
from djqueue.core.reprs import safe_repr
from djqueue.core.requests import Request, running
from djqueue.exceptions import DjqueueError
from djqueue.result import records
from djqueue.result.documents import Encoded, encode_exception
from djqueue.tasks import chords
from djqueue.tasks.errbacks import find
from djqueue.tasks.following import collect
from djqueue.tasks.outcome import Outcome

logger = logging.getLogger("djqueue.task")


def abandon(
    request: Request,
    message: WireMessage,
    error: BaseException,
    *,
    state: str = states.FAILURE,
    worker: str | None = None,
) -> Outcome:
    """Return the outcome of a task that ends with `error` without having returned or raised.

    `state` is FAILURE, or REVOKED, which no error callback hears of. Chords in which it counts hear of both.
    """
    task = tasks.get(request.task) if request.task else None
    document = None
    encoded = encode_exception(error)
    if not _ignores_errors(request):
        document = records.record(request, state, encoded, worker=worker)
    outcome = Outcome(state, document, summary=safe_repr(error))
    _read(request, message)
    try:
        _end_others(request, outcome, encoded, error)
    except Exception:  # what should have followed is damaged, and not the worker's fault
        logger.exception("What follows task %s[%s] cannot be told that it ended", request.task, request.id)
    if state == states.FAILURE and task is not None:
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


def _end_others(request: Request, outcome: Outcome, encoded: Encoded, error: BaseException) -> None:
    """Add to the outcome what the end brings about: for chords, later tasks, and error callbacks."""
    outcome.parts = chords.parts_of(request, outcome.state, encoded, later=True)
    if outcome.state == states.FAILURE:
        outcome.never_run = chords.never_run(request, encoded, None)
        if request.errbacks:
            with running(request):
                following = collect(find(request, error, None))
            outcome.follow_ups, outcome.openings = following.messages, following.openings


def _read(request: Request, message: WireMessage) -> None:
    """Find out what should have followed; if the body cannot be read, nobody can know whom to tell."""
    with suppress(DjqueueError):
        request.args, request.kwargs, embed = read_body(message)
        request.errbacks, request.chain, request.chord = embed["errbacks"], embed["chain"], embed["chord"]


def _ignores_errors(request: Request) -> bool:
    task = tasks.get(request.task) if request.task else None
    ignored = request.ignore_result
    if ignored is None:
        ignored = task is not None and task.option("ignore_result")
    return bool(ignored) and not (task is not None and task.option("store_errors_even_if_ignored"))
