"""The tasks that every registry has.

Beat sends `celery.backend_cleanup`; workers send `djqueue.call_errback` when a task ends in their main
process and somebody wants to hear of it.
"""

from __future__ import annotations

from typing import Any

from djqueue.canvas.signature import Signature
from djqueue.core.requests import Request
from djqueue.exceptions import exception_from_wire
from djqueue.result import backends
from djqueue.tasks import errbacks
from djqueue.tasks.decorator import shared_task


@shared_task(name="celery.backend_cleanup", ignore_result=True)
def backend_cleanup() -> None:
    """Delete the results that are older than RESULT_EXPIRES."""
    backends.backend().clean_up()


@shared_task(name=errbacks.CALL_ERRBACK, ignore_result=True)
def call_errback(errback: dict[str, Any], request: dict[str, Any], exc: Any, traceback: str | None) -> None:
    """Call an error callback with the request, the exception and the traceback of a task that failed."""
    errbacks.call(Signature.from_dict(errback), Request(**request), exception_from_wire(exc), traceback)
