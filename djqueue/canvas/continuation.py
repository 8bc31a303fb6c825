"""What comes after a task: its links and the next of its chain, or its error callbacks. Pure.

The request and the result come in, `FollowUp`s leave: a signature, what to call it with, and options. What
has no id gets one derived from the task's id and the place, so that finding out again gives the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from djqueue.canvas.chain import derived_id
from djqueue.canvas.signature import Signature, maybe_signature
from djqueue.core.calls import is_option
from djqueue.core.requests import Request


@dataclass(slots=True, frozen=True)
class FollowUp:
    """One signature to be sent with these arguments and options."""

    signature: Signature
    args: tuple[Any, ...]
    options: dict[str, Any]


def after_success(request: Request, value: Any) -> list[FollowUp]:
    """Return what follows a task that returned `value`."""
    following = [
        _follow(request, callback, (value,), f"link:{position}")
        for position, callback in enumerate(request.callbacks or ())
    ]
    chain = request.chain
    if chain:
        *rest, next_one = chain
        following.append(_follow(request, next_one, (value,), "chain", chain=rest or None))
    return following


def error_callbacks(request: Request) -> list[Signature]:
    """Return the signatures that want to hear that the task failed."""
    return [_tolerated(errback) for errback in request.errbacks or ()]


def after_failure(request: Request, errback: Signature, position: int) -> FollowUp:
    """Return the message to an error callback: the failed task's id is its argument."""
    return _follow(request, errback, (request.id,), f"errback:{position}")


def _follow(request: Request, signature: Any, args: tuple[Any, ...], place: str, **more: Any) -> FollowUp:
    signature = _tolerated(signature)
    options = {"parent_id": request.id, "root_id": request.root_id or request.id, **more}
    if not signature.id:
        options["task_id"] = derived_id(request.id, place)
    return FollowUp(signature, args, options)


def _tolerated(content: Any) -> Signature:
    """Return a received signature without the options that mean nothing here; others may write more."""
    signature: Signature = maybe_signature(content, clone=True)
    options = signature.options
    stamps = options.get("stamped_headers") or ()
    signature["options"] = {
        name: value for name, value in options.items() if is_option(name) or name in stamps
    }
    return signature
