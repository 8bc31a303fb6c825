"""Chords as a worker meets them: parts that are to be counted, and what comes after the last one.

A run's request and its end come in, `ChordPart`s leave with the outcome. When the store says that nothing is
missing, the body's message is made here; or, if a part failed, the ends that the failure brings about.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from djqueue import states
from djqueue.canvas import continuation
from djqueue.canvas.chain import chain
from djqueue.canvas.chord import chord
from djqueue.canvas.content import listed
from djqueue.canvas.continuation import FollowUp
from djqueue.canvas.group import derived_id, group
from djqueue.conf import settings
from djqueue.core.requests import Request
from djqueue.exceptions import ChordError
from djqueue.result.chords import ChordCount, ChordPart, arranged
from djqueue.result.documents import Document, Encoded, encode_exception
from djqueue.tasks import errbacks
from djqueue.tasks.following import collect
from djqueue.tasks.outcome import Outcome


def parts_of(request: Request, state: str, encoded: Encoded, *, later: bool = False) -> list[ChordPart]:
    """Return what is to be counted when the run of `request` ends in this way.

    With `later` the tasks that should have followed it in its chain, and do not, count as well.
    """
    queue = (request.delivery_info or {}).get("queue")
    found = []
    if request.chord and request.group:
        found.append(
            ChordPart(
                request.group,
                request.id,
                request.group_index,
                state,
                *encoded,
                body=request.chord,
                root_id=request.root_id,
                queue=queue,
            )
        )
    if later and request.chain:
        for signature, body in _ends(request.chain):
            options = signature.options
            if body and options.get("group_id") and signature.id:
                place = (options["group_id"], signature.id, options.get("group_index"))
                found.append(
                    ChordPart(*place, state, *encoded, body=body, root_id=request.root_id, queue=queue)
                )
    return found


def never_run(request: Request, encoded: Encoded, traceback: str | None) -> list[Document]:
    """Return the documents of the later tasks of a chain, which are not sent because this one failed."""
    return [
        Document(
            signature.id,
            states.FAILURE,
            *encoded,
            traceback=traceback,
            children=[],
            date_done=time.time(),
            name=signature.task if settings.RESULT_EXTENDED else None,
            group_id=signature.options.get("group_id"),
            root_id=request.root_id,
            parent_id=request.id,
            reply_to=signature.options.get("reply_to"),
        )
        for signature, _ in _ends(request.chain or ())
        if isinstance(signature.id, str) and signature.id
    ]


def completed(count: ChordCount, counted: ChordPart) -> Outcome:
    """Return what comes after a chord to which nothing is missing; `counted` is a part that told of it."""
    body = continuation.tolerated(counted.body)
    try:
        values = _values(count)
    except ChordError as error:
        return failed(body, error, counted)
    except Exception as error:
        return failed(body, _caused(f"Join error: {error!r}", error), counted)
    return started(body, values, counted)


def started(body: Any, values: list[Any], counted: ChordPart) -> Outcome:
    """Return the outcome that sends the body with the values of the header."""
    options: dict[str, Any] = {"parent_id": counted.task_id, "root_id": counted.root_id}
    if not body.id:
        options["task_id"] = derived_id(counted.group_id, "body")
    try:
        following = collect([FollowUp(body, (values,), options)])
    except Exception as error:  # the values cannot be written, an option is wrong: whatever sending raises
        return failed(body, _caused(f"Callback error: {error!r}", error), counted)
    return Outcome(states.SUCCESS, follow_ups=following.messages, openings=following.openings)


def failed(body: Any, error: BaseException, counted: ChordPart) -> Outcome:
    """Return the outcome of a body that cannot run: everything in it ends with the error.

    Error callbacks of what would have run first are told, later tasks only end, and where the body is a part
    of another chord, it counts there as failed.
    """
    outcome = Outcome(states.FAILURE, summary=str(error))
    encoded = encode_exception(error)
    for position, signature in enumerate(_first_of(body)):
        if not signature.id:
            signature.options["task_id"] = derived_id(counted.group_id, f"body:{position}")
        request = _request(signature, counted)
        following = collect(errbacks.find(request, error, None))
        place = {"queue": counted.queue}
        end = Request(id=counted.task_id, root_id=counted.root_id, chain=[signature], delivery_info=place)
        outcome.follow_ups += following.messages
        outcome.openings += following.openings
        outcome.never_run += never_run(end, encoded, None)
        outcome.parts += parts_of(end, states.FAILURE, encoded, later=True)
    return outcome


def _values(count: ChordCount) -> list[Any]:
    parts = count.parts or ()
    for part in parts:
        if part.state in states.PROPAGATE_STATES:
            raised = part.value()
            raise _caused(f"Dependency {part.task_id} raised {raised!r}", raised)
    return arranged(parts, count.members)


def _caused(message: str, cause: Any) -> ChordError:
    error = ChordError(message)
    error.__cause__ = cause if isinstance(cause, BaseException) else None
    return error


def _ends(signatures: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    for signature in signatures:
        yield from continuation.ends_of(signature)


def _first_of(body: Any, inherited: Any = None) -> Iterator[Any]:
    """Yield the single tasks that a body would have started with, each with what was to come after it."""
    given = (
        {name: body.options[name] for name in ("chord", "chain") if body.options.get(name)} or inherited or {}
    )
    if isinstance(body, group):
        for errback in listed(body.options.get("link_error")):
            body.link_error(errback)
        for member in body.tasks:
            yield from _first_of(member, given)
    elif isinstance(body, chain):
        first, *rest = body.unchain_tasks()
        if rest and given.get("chord"):
            rest[-1].options.setdefault("chord", given["chord"])
        first.options["chain"] = [*(given.get("chain") or ()), *reversed(rest)]
        yield from _first_of(first, None if rest else given)
    elif isinstance(body, chord):
        body.body.options.update(
            {name: value for name, value in given.items() if name not in body.body.options}
        )
        yield from _first_of(body.body, None)
    else:
        for name, value in given.items():
            body.options.setdefault(name, value)
        yield body


def _request(signature: Any, counted: ChordPart) -> Request:
    """Return the request of a task that was never sent, for those who are told that it failed."""
    return Request(
        id=signature.id,
        task=signature.task,
        args=signature.args,
        kwargs=signature.kwargs,
        errbacks=listed(signature.options.get("link_error")),
        root_id=counted.root_id,
        parent_id=counted.task_id,
        group=signature.options.get("group_id"),
        delivery_info={"queue": counted.queue},
        called_directly=False,
    )
