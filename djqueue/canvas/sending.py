"""From a call's options to its handle: what tasks, signatures and the app have in common when they send.

A plan and the options of `apply_async` come in; the call goes to the publisher, and the `AsyncResult`, which
knows whether its message has left, goes to the caller. While a worker looks for what follows a task, calls
are collected in the request's outbox instead: they leave with the task's outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async

from djqueue.core.calls import Call, Plan, asked
from djqueue.core.requests import task_request
from djqueue.messaging import publisher
from djqueue.messaging.departures import SENT, Departure
from djqueue.result.handles import AsyncResult

P = ParamSpec("P")
R = TypeVar("R")


def prepare(plan: Plan, args: Any, kwargs: Any, options: Mapping[str, Any]) -> Call:
    """Return the call that the options ask for, with the signatures in it as plain dictionaries.

    Raises:
        TypeError: an option does not exist, or something is of the wrong type.
        ValueError: an option has an impossible value.
    """
    call = asked(plan, args, kwargs, options)
    if call.callbacks:
        call.callbacks = plain(call.callbacks)
    if call.errbacks:
        call.errbacks = plain(call.errbacks)
    if call.chain:
        call.chain = plain(call.chain)
    if call.chord:
        call.chord = plain(call.chord)
    return call


def send(
    plan: Plan,
    args: Any,
    kwargs: Any,
    options: Mapping[str, Any],
    *,
    on_commit: bool | None = None,
    using: str | None = None,
    add_to_parent: bool = True,
) -> AsyncResult[Any]:
    """Send one call, at once or with its transaction, and return its handle.

    Raises:
        djqueue.exceptions.OperationalError: the broker could not be reached.
        djqueue.exceptions.EncodeError: the arguments cannot be written.
    """
    call = prepare(plan, args, kwargs, options)
    request = task_request()
    if request is not None and request.outbox is not None:
        request.outbox.append(call)
        departure = None
    else:
        departure = publisher.send(call, on_commit=on_commit, using=using)
    handle = _handle(call, departure)
    if request is not None and add_to_parent and request.children is not None:
        request.children.append(handle)
    return handle


def send_with(plan: Plan, args: Any, kwargs: Any, options: Mapping[str, Any]) -> AsyncResult[Any]:
    """Send one call whose options may include what `send` takes by name."""
    rest = dict(options)
    how = {key: rest.pop(key) for key in ("on_commit", "using", "add_to_parent") if key in rest}
    return send(plan, args, kwargs, rest, **how)


def is_collecting() -> bool:
    """Return whether what is sent here is collected, as what follows a task."""
    request = task_request()
    return request is not None and request.outbox is not None


def send_many(
    calls: Sequence[Call], *, on_commit: bool | None = None, using: str | None = None
) -> list[AsyncResult[Any]]:
    """Send the calls together, and return their handles in order."""
    departure = publisher.send_many(calls, on_commit=on_commit, using=using)
    return [_handle(call, departure) for call in calls]


async def in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call something that may wait for a broker or a database from a coroutine."""
    return await sync_to_async(function)(*args, **kwargs)


def plain(value: Any) -> Any:
    """Return signatures, and lists and dictionaries of them, as nothing but dictionaries and lists."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def _handle(call: Call, departure: Departure | None) -> AsyncResult[Any]:
    if departure is not None and departure.state == SENT:
        departure = None  # it holds the message, which the caller may keep for long
    return AsyncResult(call.id, task_name=call.plan.name, departure=departure, ignored=call.ignores_result)
