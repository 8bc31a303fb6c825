"""Telling error callbacks that a task failed: called right here, or sent a message with the task's id.

A function that takes more than one argument is called with the request, the exception and the traceback, as
Celery does; everything else is sent as a task. Execution calls them in the child; a worker that gives a task
up leaves the calling to a message, so that user code never runs in its main process.
"""

from __future__ import annotations

import logging
from typing import Any

from djqueue.canvas.continuation import FollowUp, after_failure, error_callbacks
from djqueue.canvas.signature import Signature
from djqueue.core.registry import tasks
from djqueue.core.requests import Request
from djqueue.core.wire_exceptions import exception_to_wire
from djqueue.tasks.coroutines import run_coroutine

logger = logging.getLogger("djqueue.task")

#: The built-in task that calls an error callback on behalf of a worker's main process.
CALL_ERRBACK = "djqueue.call_errback"
#: What an error callback learns about the request when it is called that way.
_TOLD = (
    *("id", "task", "args", "kwargs", "retries", "root_id", "parent_id", "group", "hostname"),
    *("delivery_info",),
)


def call_or_find(request: Request, exc: BaseException, traceback: str | None) -> list[FollowUp]:
    """Call the error callbacks that want to know more than an id; return the messages to the others."""
    following = []
    for position, errback in enumerate(error_callbacks(request)):
        if wants_details(errback):
            call(errback, request, exc, traceback)
        else:
            following.append(after_failure(request, errback, position))
    return following


def find(request: Request, exc: BaseException, traceback: str | None) -> list[FollowUp]:
    """Return the messages to all error callbacks, without calling any."""
    following = []
    for position, errback in enumerate(error_callbacks(request)):
        follow_up = after_failure(request, errback, position)
        if wants_details(errback):
            told = {name: request.get(name) for name in _TOLD}
            details = (dict(errback), told, exception_to_wire(exc), traceback)
            deputy = Signature(CALL_ERRBACK, details, immutable=True)
            follow_up = FollowUp(deputy, (), follow_up.options | _place(request))
        following.append(follow_up)
    return following


def wants_details(errback: Signature) -> bool:
    """Return whether the callback is a plain function of this process that takes more than one argument."""
    task = tasks.get(errback.task)
    return task is not None and task.is_plain_function() and task.arguments.takes_more_than_one()


def call(errback: Signature, request: Request, exc: BaseException, traceback: str | None) -> None:
    """Call an error callback; what it raises is logged, and the others are still called."""
    try:
        if errback.type.is_coroutine():
            run_coroutine(errback, (request, exc, traceback), {})
        else:
            errback(request, exc, traceback)
    except Exception:
        logger.exception("Error callback %s of task %s[%s] raised", errback.task, request.task, request.id)


def _place(request: Request) -> dict[str, Any]:
    """Return where the message to the deputy goes: to the queue the failed task came from."""
    queue = (request.delivery_info or {}).get("queue")
    return {"queue": queue} if queue else {}
