"""From a call's options to its handle: what tasks, signatures and the app have in common when they send.

A plan and the options of `apply_async` come in; the call goes to the publisher, and the `AsyncResult`, which
knows whether its message has left, goes to the caller. What belongs together is collected in a `Batch` and
leaves in one go; a worker that looks for what follows a task lets it leave with the task's outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async

from djqueue.core.calls import Call, Plan, asked
from djqueue.core.registry import tasks
from djqueue.core.requests import Outbox, current_batch, running, task_request, worker_request
from djqueue.messaging import brokers, publisher
from djqueue.messaging.departures import SENT, Departure
from djqueue.result import backends
from djqueue.result.chords import ChordOpening
from djqueue.result.handles import AsyncResult

P = ParamSpec("P")
R = TypeVar("R")


class Batch:
    """Calls that leave together, the chords that are opened before, and the handles that hear of it.

    `follows` says that it is what follows a task: its sender has done its work, arguments are not his fault.
    """

    __slots__ = ("calls", "follows", "handles", "openings")

    def __init__(self, *, follows: bool = False) -> None:
        self.calls: list[Call] = []
        self.openings: list[ChordOpening] = []
        self.handles: list[Any] = []
        self.follows = follows

    def leave(self, on_commit: bool | None, using: str | None) -> None:
        """Send everything, at once or with its transaction."""
        if not self.calls:
            return
        _expect_results(self.calls)
        first = self._open if self.openings else None
        departure = publisher.send_many(self.calls, on_commit=on_commit, using=using, first=first)
        if departure.state != SENT:
            for handle in self.handles:
                handle.leaves_with(departure)

    def _open(self) -> None:
        backends.backend().open_chords(self.openings)


@contextmanager
def collecting(batch: Batch) -> Iterator[Batch]:
    """Collect in `batch` what is sent inside the block."""
    with running(Outbox(batch)):
        yield batch


@contextmanager
def together(on_commit: bool | None = None, using: str | None = None) -> Iterator[Batch]:
    """Collect what is sent inside the block, and send it when the block ends; inner blocks join in.

    The arguments are those of `send`; those of the outermost block count. Nothing is sent if it raises.
    """
    outer = current_batch()
    if outer is not None:
        yield outer
        return
    with collecting(Batch()) as batch:
        yield batch
    batch.leave(on_commit, using)


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
    if call.chord and type(call.chord) is not dict:  # a chord's parts share one that is plain already
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
    batch = current_batch()
    if batch is not None:
        batch.calls.append(call)
        handle = _handle(call, None)
        batch.handles.append(handle)
    else:
        _expect_results([call])
        handle = _handle(call, publisher.send(call, on_commit=on_commit, using=using))
    if add_to_parent:
        note_child(handle)
    return handle


def send_with(plan: Plan, args: Any, kwargs: Any, options: Mapping[str, Any]) -> AsyncResult[Any]:
    """Send one call whose options may include what `send` takes by name."""
    rest = dict(options)
    how = {key: rest.pop(key) for key in ("on_commit", "using", "add_to_parent") if key in rest}
    return send(plan, args, kwargs, rest, **how)


def note_child(handle: Any) -> None:
    """Make the handle's task, or group, a child of the task that is running here, if one is."""
    request = task_request()
    if request is not None and request.children is not None:
        request.children.append(handle)


def is_following() -> bool:
    """Return whether what is sent here follows a task, whose sender has done its work."""
    batch = current_batch()
    return batch is not None and batch.follows


def place_of(signature: Any, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the options that send something else to where this signature would go."""
    task = tasks.get(signature["task"])
    plan = Plan.for_name(signature["task"]) if task is None else task.plan
    options = signature["options"] if options is None else options
    known = ("queue", "exchange", "routing_key", "priority")
    asked_for = {name: options[name] for name in known if options.get(name) is not None}
    call = Call(plan, **{name: getattr(value, "name", value) for name, value in asked_for.items()})
    place = brokers.router().place(call)
    found: dict[str, Any] = {"queue": place.queue}
    if place.queue is None:
        found = {"exchange": place.exchange, "routing_key": place.routing_key}
    priority = plan.priority if call.priority is None else call.priority
    return found if priority is None else {**found, "priority": priority}


def send_many(
    calls: Sequence[Call], *, on_commit: bool | None = None, using: str | None = None
) -> list[AsyncResult[Any]]:
    """Send the calls together, and return their handles in order."""
    _expect_results(calls)
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


def _expect_results(calls: Sequence[Call]) -> None:
    """Tell the store that somebody may ask for these results; inside a task nobody does."""
    if worker_request() is None and not all(call.ignores_result for call in calls):
        backends.backend().expect_results()


def _handle(call: Call, departure: Departure | None) -> AsyncResult[Any]:
    if departure is not None and departure.state == SENT:
        departure = None  # it holds the message, which the caller may keep for long
    return AsyncResult(call.id, task_name=call.plan.name, departure=departure, ignored=call.ignores_result)
