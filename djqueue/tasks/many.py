"""Sending many calls at once: `enqueue_many`.

Signatures, or tasks with their arguments, come in; handles leave in the same order. A database broker writes
all messages with one statement, others in one round trip.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from djqueue.canvas import sending
from djqueue.canvas.signature import Signature
from djqueue.conf import settings
from djqueue.core.calls import Call, Plan
from djqueue.core.registry import tasks
from djqueue.result.handles import AsyncResult


def enqueue_many(
    wanted: Iterable[Any], *, on_commit: bool | None = None, using: str | None = None, **options: Any
) -> list[AsyncResult[Any]]:
    """Send all calls, and return their handles in order.

    Each is a signature, or a tuple of a task (or its name), its args and its kwargs, the last two optional.
    `options` are those of `apply_async`, for each call that does not set them itself.

    Raises:
        TypeError: something is no call, or its arguments or an option do not fit; nothing is sent.
    """
    signatures = [_signature(one, options) for one in wanted]
    if settings.TASK_ALWAYS_EAGER:
        return [signature.apply_async() for signature in signatures]
    return sending.send_many([_call(one) for one in signatures], on_commit=on_commit, using=using)


async def aenqueue_many(
    wanted: Iterable[Any], *, on_commit: bool | None = None, using: str | None = None, **options: Any
) -> list[AsyncResult[Any]]:
    """Do as `enqueue_many` does, without blocking the event loop."""
    return await sending.in_thread(enqueue_many, wanted, on_commit=on_commit, using=using, **options)


def _signature(one: Any, options: dict[str, Any]) -> Signature:
    if isinstance(one, Signature):
        if one.subtask_type in ("chain", "chord", "group", "chunks"):
            raise TypeError(
                f"enqueue_many() sends single tasks; send a {one.subtask_type} with its own apply_async()."
            )
        return Signature.from_dict({**one, "options": {**options, **one.options}}) if options else one
    if isinstance(one, tuple | list) and 1 <= len(one) <= 3:
        task, args, kwargs = (*one, None, None)[:3]
        return Signature(task, args, kwargs, options)
    raise TypeError(f"enqueue_many() takes signatures, or (task, args, kwargs); it was given {one!r}.")


def _call(signature: Signature) -> Call:
    task = tasks.get(signature.task)
    if task is None:
        plan = Plan.for_name(signature.task)
        return sending.prepare(plan, signature.args, signature.kwargs, signature.options)
    call: Call = task.prepare(signature.args, signature.kwargs, **signature.options)
    return call
