"""The tasks that every registry has.

Beat sends `celery.backend_cleanup`; workers send `djqueue.call_errback` when a task ends in their main
process and somebody wants to hear of it. The others belong to the canvas, under the names that Celery gave
them, so that either side runs what the other sends.
"""

from __future__ import annotations

from typing import Any

from djqueue import states
from djqueue.canvas import continuation
from djqueue.canvas.chord import UNLOCK, chord
from djqueue.canvas.group import group
from djqueue.canvas.maps import chunks
from djqueue.canvas.signature import Signature, maybe_signature
from djqueue.conf import settings
from djqueue.core.requests import Request
from djqueue.core.wire_exceptions import exception_from_wire
from djqueue.exceptions import ChordError, Retry
from djqueue.result import backends
from djqueue.result.chords import ChordPart
from djqueue.result.groups import GroupResult, result_from_tuple
from djqueue.result.joining import allow_join_result
from djqueue.tasks import chords, errbacks
from djqueue.tasks.decorator import shared_task
from djqueue.tasks.replacing import ACCUMULATE


@shared_task(name="celery.backend_cleanup", ignore_result=True)
def backend_cleanup() -> None:
    """Delete the results that are older than RESULT_EXPIRES."""
    backends.backend().clean_up()


@shared_task(name=errbacks.CALL_ERRBACK, ignore_result=True)
def call_errback(errback: dict[str, Any], request: dict[str, Any], exc: Any, traceback: str | None) -> None:
    """Call an error callback with the request, the exception and the traceback of a task that failed."""
    errbacks.call(Signature.from_dict(errback), Request(**request), exception_from_wire(exc), traceback)


@shared_task(name=ACCUMULATE)
def accumulate(*args: Any, index: int | None = None) -> Any:
    """Return the arguments, or the one at `index`."""
    return args if index is None else args[index]


@shared_task(name="celery.map")
def xmap(task: dict[str, Any], it: list[Any]) -> list[Any]:
    """Call the task with each item, and return the results."""
    mapped = maybe_signature(task).type
    return [mapped(item) for item in it]


@shared_task(name="celery.starmap")
def xstarmap(task: dict[str, Any], it: list[Any]) -> list[Any]:
    """Call the task with the arguments in each item, and return the results."""
    mapped = maybe_signature(task).type
    return [mapped(*item) for item in it]


@shared_task(name="celery.chunks")
def run_chunks(task: dict[str, Any], it: list[Any], n: int) -> Any:
    """Send the chunks, and return the ids of their group."""
    return chunks(maybe_signature(task), it, n)().as_tuple()


@shared_task(name="celery.group")
def run_group(
    tasks: list[Any], result: Any, group_id: str, partial_args: Any = (), add_to_parent: bool = True
) -> Any:
    """Send the tasks as a group with that id, and return its ids; old clients ask for it."""
    return group(tasks).apply_async(partial_args, task_id=group_id, add_to_parent=add_to_parent).as_tuple()


@shared_task(name="celery.chain")
def run_chain(*args: Any, **kwargs: Any) -> None:
    """Say that a chain is no task."""
    raise NotImplementedError("A chain is not a task: its tasks are sent one after the other.")


@shared_task(name="celery.chord")
def run_chord(header: Any, body: Any, partial_args: Any = (), **options: Any) -> Any:
    """Send a chord, and return the ids of its body; old clients ask for it."""
    known = {
        name: options[name] for name in ("interval", "max_retries", "countdown", "eta") if name in options
    }
    return chord(header, body).apply_async(partial_args, options.get("kwargs"), **known).as_tuple()


@shared_task(name=UNLOCK, bind=True, max_retries=None, ignore_result=True)
def unlock_chord(
    self: Any,
    /,
    group_id: str,
    callback: dict[str, Any],
    interval: float | None = None,
    max_retries: int | None = None,
    result: Any = None,
    **_: Any,
) -> None:
    """Ask whether a chord's header has ended; ask again in `interval` seconds, or let the body follow."""
    body = continuation.tolerated(callback)
    counted = ChordPart(group_id, self.request.id, None, "", "", "", "", callback, self.request.root_id)
    header = GroupResult(group_id, [result_from_tuple(one) for one in result or ()])
    try:
        _wait_for(self, header, interval, max_retries)
        with allow_join_result():
            values = header.get(timeout=settings.RESULT_CHORD_JOIN_TIMEOUT)
    except Retry:
        raise
    except Exception as error:
        outcome = chords.failed(body, _refusal(header, error), counted)
    else:
        outcome = chords.started(body, values, counted)
    self.request.brought_about = outcome


def _wait_for(task: Any, header: GroupResult, interval: float | None, max_retries: int | None) -> None:
    """Ask for another run unless the header has ended; also if the store cannot be read just now."""
    error: Exception | None = None
    try:
        if header.ready():
            return
    except Exception as unreadable:  # whatever the store raises
        error = unreadable
    pause = settings.RESULT_CHORD_RETRY_INTERVAL if interval is None else interval
    task.retry(exc=error, countdown=pause, max_retries=max_retries)


def _refusal(header: GroupResult, error: Exception) -> ChordError:
    """Return why the body does not run."""
    ended = (leaf for leaf in header.leaves() if leaf._final is not None)
    culprit = next((leaf for leaf in ended if leaf.state in states.PROPAGATE_STATES), None)
    refusal = ChordError(
        f"chord_unlock gave up: {error!r}" if culprit is None else f"Dependency {culprit.id} raised {error!r}"
    )
    refusal.__cause__ = error
    return refusal
