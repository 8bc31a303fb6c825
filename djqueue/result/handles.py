"""What a caller holds after sending a task: its id, and ways to ask and to wait for what became of it.

Sending gives an `AsyncResult`; any process with the same store makes one from an id. Reading goes through
the result backend; a terminal state is remembered, everything else is read anew. A handle knows whether its
message has left at all, so that waiting for what cannot come raises at once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import datetime
from operator import attrgetter
from typing import Any, ClassVar, Generic, TypeVar

from asgiref.sync import sync_to_async

from djqueue import exceptions, states
from djqueue.messaging.control import PATIENCE, Control
from djqueue.messaging.departures import SENT, Departure
from djqueue.result import backends, reading
from djqueue.result.backends import Given
from djqueue.result.contract import ResultBackend
from djqueue.result.documents import Document
from djqueue.result.joining import refuse_inside_a_task
from djqueue.result.pauses import Naps

R = TypeVar("R")
T = TypeVar("T")

#: How often a waiting `get` looks whether a parent failed or calls `on_interval`, seconds.
LOOK_AROUND = 0.5


class AsyncResult(Generic[R]):
    """One task that was sent. Equal to every other handle of the same id.

    `departure` tells whether the message has left; handles made from an id have none and assume it has.
    """

    #: makes handles, also those of groups, of what `as_tuple` returns; `groups.py` puts it here
    from_tuple: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        id: str,  # noqa: A002  (Celery's name)
        backend: Given = None,
        task_name: str | None = None,
        parent: Any = None,
        *,
        departure: Departure | None = None,
        ignored: bool = False,
    ) -> None:
        if not id:
            raise ValueError(f"A result is found by the id of its task; the id given is {id!r}.")
        self.id = id
        self.parent = parent
        #: the task keeps no result: `get()` returns None at once
        self.ignored = ignored
        self._task_name = task_name
        self._backend = backend
        self._departure = departure
        self._final: Document | None = None

    # -- waiting -------------------------------------------------------------------------------------

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float | None = None,
        follow_parents: bool = True,
        callback: Callable[[str, Any], None] | None = None,
        on_interval: Callable[[], None] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> R:
        """Wait for the task and return its result, or raise its exception.

        Without `propagate` the exception is returned. `interval` is the pause between two looks where the
        store has to be asked again and again. `follow_parents` also raises what a parent failed with.

        Raises:
            djqueue.exceptions.TimeoutError: it was not ready after `timeout` seconds.
            djqueue.exceptions.NotSentYet: its transaction has not been committed, or was rolled back.
            RuntimeError: called inside a task, which could wait for ever.
        """
        if self.ignored:
            return None  # type: ignore[return-value]  # nothing is kept, whatever the task returns
        self._check_waiting_makes_sense(disable_sync_subtasks)
        if self._final is None:
            self._final = self._wait(timeout, interval, on_interval, propagate and follow_parents)
        return self._hand_over(propagate, callback)

    def wait(self, *args: Any, **kwargs: Any) -> R:
        """Do as `get` does."""
        return self.get(*args, **kwargs)

    async def aget(
        self,
        timeout: float | None = None,  # noqa: ASYNC109  (the twin of `get`)
        propagate: bool = True,
        interval: float | None = None,
        follow_parents: bool = True,
        callback: Callable[[str, Any], None] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> R:
        """Do as `get` does, without blocking the event loop."""
        if self.ignored:
            return None  # type: ignore[return-value]
        self._check_waiting_makes_sense(disable_sync_subtasks)
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        follow_parents = propagate and follow_parents and self.parent is not None
        with Naps(interval) as naps:
            while not await sync_to_async(self.ready)():
                if follow_parents:
                    await sync_to_async(self._raise_error_of_parents)()
                left = deadline - time.monotonic()
                if left <= 0:
                    raise self._timed_out(timeout)
                most = min(left, LOOK_AROUND) if follow_parents else left
                await naps.rest(self.backend, self.id, most)
        return self._hand_over(propagate, callback)

    def maybe_throw(self, propagate: bool = True, callback: Callable[[str, Any], None] | None = None) -> Any:
        """Return the result as far as it is known, or raise the exception the task ended with."""
        state, value = self.state, self.result
        if propagate and state in states.PROPAGATE_STATES:
            raise value if isinstance(value, BaseException) else RuntimeError(f"The task ended as {state}.")
        if callback is not None:
            callback(self.id, value)
        return value

    maybe_reraise = maybe_throw

    # -- asking --------------------------------------------------------------------------------------

    def ready(self) -> bool:
        """Return whether the task has ended."""
        return self.state in states.READY_STATES

    def successful(self) -> bool:
        """Return whether the task returned."""
        return self.state == states.SUCCESS

    def failed(self) -> bool:
        """Return whether the task raised and will not be tried again."""
        return self.state == states.FAILURE

    def exists(self) -> bool:
        """Return whether the store holds anything about the task."""
        return self._read() is not None

    def forget(self) -> None:
        """Delete what the store holds about this task and its parents."""
        self._final = None
        reading.forget(self.backend, [self.id])
        if self.parent is not None:
            self.parent.forget()

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> list[dict[str, Any]] | None:
        """Let no worker run the task; with `terminate`, kill the process of one that runs it.

        With `wait`, return what workers reply within `timeout` seconds.
        """
        how = {"connection": connection, "reply": wait, "timeout": PATIENCE if timeout is None else timeout}
        return Control().revoke(self.id, terminate=terminate, signal=signal or "SIGTERM", **how)

    def leaves_with(self, departure: Departure) -> None:
        """Share the fate of these messages: without them this task is never sent."""
        self._departure = departure

    @property
    def backend(self) -> ResultBackend:
        """The store this handle reads from."""
        return backends.meant_by(self._backend)

    @property
    def task_id(self) -> str:
        """The same as `id`."""
        return self.id

    @property
    def state(self) -> str:
        """The task's state; PENDING when nothing is known of it."""
        document = self._read()
        return document.status if document else states.PENDING

    status = state

    @property
    def result(self) -> Any:
        """What the task returned, the exception it raised, or the meta of a custom state."""
        document = self._read()
        return document.value() if document else None

    info = result

    @property
    def traceback(self) -> str | None:
        """The traceback of the exception, as text."""
        return self._stored(attrgetter("traceback"))

    @property
    def date_done(self) -> datetime | None:
        """When the task ended."""
        document = self._read()
        return document.finished_at() if document else None

    @property
    def name(self) -> str | None:
        """The task's name."""
        return self._task_name or self._stored(attrgetter("name"))

    @property
    def args(self) -> str | None:
        """The representation of the positional arguments."""
        return self._stored(attrgetter("args"))

    @property
    def kwargs(self) -> str | None:
        """The representation of the keyword arguments."""
        return self._stored(attrgetter("kwargs"))

    @property
    def worker(self) -> str | None:
        """The node name of the worker that ran the task."""
        return self._stored(attrgetter("worker"))

    @property
    def retries(self) -> int | None:
        """How often the task was retried."""
        return self._stored(attrgetter("retries"))

    @property
    def queue(self) -> str | None:
        """The queue the task came from."""
        return self._stored(attrgetter("queue"))

    # -- relatives -----------------------------------------------------------------------------------

    @property
    def children(self) -> list[Any] | None:
        """The tasks and groups that this one sent, those that follow it included; None: nothing is known."""
        document = self._read()
        if document is None or document.children is None:
            return None
        return [type(self).from_tuple(child, self._backend) for child in document.children]

    @property
    def root(self) -> Any:
        """The first of the parents, or this handle itself."""
        return self if self.parent is None else self.parent.root

    def as_tuple(self) -> tuple[Any, Any]:
        """Return the handle as builtins, for `result_from_tuple`."""
        return (self.id, self.parent and self.parent.as_tuple()), None

    def as_list(self) -> list[str]:
        """Return the ids of this task and of its parents."""
        return [self.id, *(self.parent.as_list() if self.parent is not None else ())]

    # -- as a value ----------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AsyncResult):
            return self.id == other.id
        return self.id == other if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id}>"

    def __reduce__(self) -> tuple[Any, ...]:
        given = self._backend
        address = given if given is None or isinstance(given, str) else self.backend.url
        return _unpickled, (self.id, address, self._task_name, self.parent, self.ignored)

    # -- inside --------------------------------------------------------------------------------------

    def _read(self) -> Document | None:
        if self._final is not None or self._is_on_its_way():
            return self._final
        return self._learn(reading.read(self.backend, [self.id]).get(self.id))

    def _learn(self, document: Document | None) -> Document | None:
        """Remember a terminal state; return the document."""
        if document is not None and document.status in states.READY_STATES:
            self._final = document
        return document

    def _is_on_its_way(self) -> bool:
        return self._departure is not None and self._departure.state != SENT

    def _stored(self, field: Callable[[Document], T]) -> T | None:
        document = self._read()
        return field(document) if document is not None else None

    def _wait(
        self,
        timeout: float | None,
        interval: float | None,
        on_interval: Callable[[], None] | None,
        follow_parents: bool,
    ) -> Document:
        deadline = None if timeout is None else time.monotonic() + timeout
        follow_parents = follow_parents and self.parent is not None
        turn = (interval or LOOK_AROUND) if follow_parents or on_interval else None
        while True:
            if follow_parents:
                self._raise_error_of_parents()
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            seconds = min((one for one in (turn, left) if one is not None), default=None)
            document = reading.wait(self.backend, self.id, seconds, interval)
            if document is not None:
                return document
            if deadline is not None and time.monotonic() >= deadline:
                raise self._timed_out(timeout)
            if on_interval is not None:
                on_interval()

    def _hand_over(self, propagate: bool, callback: Callable[[str, Any], None] | None) -> R:
        value: R = self.maybe_throw(propagate, callback)
        return value

    def _raise_error_of_parents(self) -> None:
        line: list[Any] = []
        parent = self.parent
        while parent is not None:
            line.append(parent)
            parent = parent.parent
        for parent in reversed(line):
            parent.maybe_throw()

    def _check_waiting_makes_sense(self, disable_sync_subtasks: bool) -> None:
        if disable_sync_subtasks:
            refuse_inside_a_task(self.id)
        if self._departure is not None and self._departure.state != SENT:
            raise exceptions.NotSentYet(f"Task {self.id} cannot have a result: {self._departure.why()}")

    def _timed_out(self, timeout: float | None) -> exceptions.TimeoutError:
        return exceptions.TimeoutError(
            f"The operation timed out: task {self.id} was not ready after {timeout} seconds."
        )


def _unpickled(
    task_id: str,
    backend: str | None,
    task_name: str | None,
    parent: Any,
    ignored: bool,
) -> AsyncResult[Any]:
    return AsyncResult(task_id, backend, task_name, parent, ignored=ignored)
