"""What comes after a task: its links and the next of its chain, or its error callbacks. Pure.

The request and the result come in, `FollowUp`s leave: a signature, what to call it with, and options. What
has no id gets one derived from the task's id and the place, so that finding out again gives the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from djqueue.canvas.chain import chain
from djqueue.canvas.chord import chord
from djqueue.canvas.content import listed
from djqueue.canvas.group import derived_id, group
from djqueue.canvas.signature import maybe_signature
from djqueue.core.calls import is_option
from djqueue.core.requests import Request

#: Options of chords that are no options of a call.
_OF_CHORDS = frozenset({"interval", "max_retries"})


@dataclass(slots=True, frozen=True)
class FollowUp:
    """One signature to be sent with these arguments and options."""

    signature: Any
    args: tuple[Any, ...]
    options: dict[str, Any]


def after_success(request: Request, value: Any) -> list[FollowUp]:
    """Return what follows a task that returned `value`."""
    following = [
        _follow(request, callback, (value,), f"link:{position}")
        for position, callback in enumerate(request.callbacks or ())
    ]
    rest = request.chain
    if rest:
        *rest, next_one = rest
        following.append(_follow(request, next_one, (value,), "chain", chain=rest or None))
    return following


def error_callbacks(request: Request) -> list[Any]:
    """Return the signatures that want to hear that the task failed."""
    return [tolerated(errback) for errback in request.errbacks or ()]


def after_failure(request: Request, errback: Any, position: int) -> FollowUp:
    """Return the message to an error callback: the failed task's id is its argument."""
    return _follow(request, errback, (request.id,), f"errback:{position}")


def ends_of(content: Any, counts_in: Any = None) -> Iterator[tuple[Any, Any]]:
    """Yield each task whose result somebody may wait for if this signature is never sent.

    With each comes the body of the chord in which its end counts, or None; `counts_in` is that of the whole.
    The header of a chord that is not sent has no end; its body has.
    """
    signature = maybe_signature(content)
    counts_in = signature.options.get("chord") or counts_in
    if isinstance(signature, group):
        for member in signature.tasks:
            yield from ends_of(member, counts_in)
    elif isinstance(signature, chain):
        *others, last = signature.tasks or (None,)
        for step in others:
            yield from ends_of(step)
        if last is not None:
            yield from ends_of(last, counts_in)
    elif isinstance(signature, chord):
        if signature.body is not None:
            yield from ends_of(signature.body, counts_in)
    else:
        yield signature, counts_in
    for later in signature.options.get("chain") or ():
        yield from ends_of(later)


def tolerated(content: Any) -> Any:
    """Return a received signature without the options that mean nothing here; others may write more."""
    signature = maybe_signature(content, clone=True)
    _clear(signature)
    return signature


def _follow(request: Request, signature: Any, args: tuple[Any, ...], place: str, **more: Any) -> FollowUp:
    signature = tolerated(signature)
    options = {"parent_id": request.id, "root_id": request.root_id or request.id, **more}
    if not signature.id:
        options["task_id"] = derived_id(request.id, place)
    return FollowUp(signature, args, options)


def _clear(content: dict[str, Any]) -> None:
    """Take options that nobody knows out of a signature and those it is made of."""
    options = content["options"]
    if options:
        stamps = options.get("stamped_headers") or ()
        extra = _OF_CHORDS if content["subtask_type"] == "chord" else ()
        content["options"] = {
            name: value
            for name, value in options.items()
            if is_option(name) or name in stamps or name in extra
        }
    if content["subtask_type"] in ("group", "chain", "chord"):
        kwargs = content["kwargs"]
        for one in (*kwargs.get("tasks", ()), *kwargs.get("header", ()), *listed(kwargs.get("body"))):
            _clear(one)
