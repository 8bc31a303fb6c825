"""Handles of several tasks: a set of any results, and the result of a group, which has an id.

What is known of the members is read from the store in one go, never one by one. A group's handle can be kept
in the store and found again by its id.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from asgiref.sync import sync_to_async

from djqueue import exceptions, states
from djqueue.messaging.control import PATIENCE, Control
from djqueue.messaging.departures import SENT, Departure
from djqueue.result import backends, reading
from djqueue.result.backends import Given
from djqueue.result.contract import ResultBackend
from djqueue.result.eager import EagerResult
from djqueue.result.handles import LOOK_AROUND, AsyncResult
from djqueue.result.members import Handle, Members
from djqueue.result.pauses import Naps


class ResultSet(Members):
    """Results of any tasks, in order."""

    # -- asking --------------------------------------------------------------------------------------

    def ready(self) -> bool:
        """Return whether every task has ended."""
        return not self._unfinished()

    def waiting(self) -> bool:
        """Return whether any task has not ended."""
        return not self.ready()

    def successful(self) -> bool:
        """Return whether every task returned."""
        self._look()
        return all(result.successful() for result in self.results)

    def failed(self) -> bool:
        """Return whether any task raised and will not be tried again."""
        self._look()
        return any(result.failed() for result in self.results)

    def completed_count(self) -> int:
        """Return how many of the results are those of tasks that returned."""
        self._look()
        return sum(result.successful() for result in self.results)

    def maybe_throw(self, propagate: bool = True, callback: Callable[[str, Any], None] | None = None) -> None:
        """Raise the exception of the first task that ended with one; `callback` hears of the others."""
        self._look()
        for result in self.results:
            result.maybe_throw(propagate=propagate, callback=callback)

    maybe_reraise = maybe_throw

    # -- waiting -------------------------------------------------------------------------------------

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float | None = None,
        callback: Callable[[str, Any], None] | None = None,
        on_interval: Callable[[], None] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> list[Any]:
        """Wait for all tasks and return their results in order, or raise the first exception that comes.

        Without `propagate` exceptions stand among the results. With a `callback`, it is given each id and
        result in order, and the list is empty.

        Raises:
            djqueue.exceptions.TimeoutError: not all were ready after `timeout` seconds.
            djqueue.exceptions.NotSentYet: their transaction has not been committed, or was rolled back.
            RuntimeError: called inside a task, which could wait for ever.
        """
        for _ in self._ended(timeout, propagate, interval, on_interval, disable_sync_subtasks):
            pass
        return self._values(propagate, callback)

    join = join_native = get

    async def aget(
        self,
        timeout: float | None = None,  # noqa: ASYNC109  (the twin of `get`)
        propagate: bool = True,
        interval: float | None = None,
        callback: Callable[[str, Any], None] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> list[Any]:
        """Do as `get` does, without blocking the event loop."""
        self._check_waiting_makes_sense(disable_sync_subtasks)
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        with Naps(interval) as naps:
            while unfinished := await sync_to_async(self._unfinished)():
                if propagate:
                    await sync_to_async(self._raise_first_error)()
                left = deadline - time.monotonic()
                if left <= 0:
                    raise self._timed_out(timeout, unfinished)
                last = unfinished[-1]  # what was sent last usually ends last
                await naps.rest(last.backend, last.id, min(left, LOOK_AROUND))
        return self._values(propagate, callback)

    ajoin = aget

    def iter_native(
        self,
        timeout: float | None = None,
        interval: float | None = None,
        on_interval: Callable[[], None] | None = None,
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the id and Celery's meta of each task as it ends; of a group of its own, its leaves' ones.

        Raises:
            djqueue.exceptions.TimeoutError: not all were ready after `timeout` seconds.
        """
        for ended in self._ended(timeout, False, interval, on_interval, disable_sync_subtasks=False):
            for leaf in ended:
                yield leaf.id, _meta(leaf)

    # -- acting --------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Delete what the store holds about the tasks."""
        for result in self.results:
            result.forget()

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> list[dict[str, Any]] | None:
        """Let no worker run any of the tasks, with one message; as `AsyncResult.revoke` otherwise."""
        how = {"connection": connection, "reply": wait, "timeout": PATIENCE if timeout is None else timeout}
        ids = [leaf.id for leaf in self.leaves()]
        return Control().revoke(ids, terminate=terminate, signal=signal or "SIGTERM", **how)

    # -- inside --------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Read what is not final yet, all in one go for each store."""
        unknown: dict[ResultBackend, dict[str, list[AsyncResult[Any]]]] = {}
        for leaf in self.leaves():
            if leaf._final is None and not leaf._is_on_its_way():
                unknown.setdefault(leaf.backend, {}).setdefault(leaf.id, []).append(leaf)
        for store, leaves in unknown.items():
            for task_id, document in reading.read(store, list(leaves)).items():
                for leaf in leaves[task_id]:
                    leaf._learn(document)

    def _unfinished(self) -> list[AsyncResult[Any]]:
        self._look()
        return [leaf for leaf in self.leaves() if not _has_ended(leaf)]

    def _ended(
        self,
        timeout: float | None,
        propagate: bool,
        interval: float | None,
        on_interval: Callable[[], None] | None,
        disable_sync_subtasks: bool,
    ) -> Iterator[list[AsyncResult[Any]]]:
        """Yield what has ended since the last time, until nothing is left."""
        self._check_waiting_makes_sense(disable_sync_subtasks)
        deadline = None if timeout is None else time.monotonic() + timeout
        left = {leaf.id: leaf for leaf in self.leaves()}
        while True:
            unfinished = self._unfinished()
            still = {leaf.id for leaf in unfinished}
            ended = [leaf for task_id, leaf in left.items() if task_id not in still]
            if ended:
                if propagate:
                    self._raise_first_error()
                left = {task_id: leaf for task_id, leaf in left.items() if task_id in still}
                yield ended
            if not unfinished:
                return
            seconds = LOOK_AROUND if deadline is None else min(LOOK_AROUND, deadline - time.monotonic())
            if seconds <= 0:
                raise self._timed_out(timeout, unfinished)
            # What was sent last usually ends last; and most of the others with it.
            last = unfinished[-1]
            reading.wait(last.backend, last.id, seconds, interval)
            if on_interval is not None:
                on_interval()

    def _raise_first_error(self) -> None:
        for leaf in self.leaves():
            if _has_ended(leaf) and leaf.state in states.PROPAGATE_STATES:
                leaf.maybe_throw()

    def _values(self, propagate: bool, callback: Callable[[str, Any], None] | None) -> list[Any]:
        values = []
        for result in self.results:
            value: Any = None
            if isinstance(result, ResultSet):
                value = result._values(propagate, None)
            elif not result.ignored:
                value = result.maybe_throw(propagate)
            if callback is None:
                values.append(value)
            else:
                callback(result.id, value)
        return values

    def _check_waiting_makes_sense(self, disable_sync_subtasks: bool) -> None:
        for leaf in self.leaves():
            leaf._check_waiting_makes_sense(disable_sync_subtasks)

    def _timed_out(
        self, timeout: float | None, unfinished: list[AsyncResult[Any]]
    ) -> exceptions.TimeoutError:
        return exceptions.TimeoutError(
            f"The operation timed out: {len(unfinished)} of {len(self.leaves())} tasks were not ready after "
            f"{timeout} seconds. The first is {unfinished[0].id}."
        )


class GroupResult(ResultSet):
    """The results of a group, in its order. It can be kept in the store with `save`."""

    def __init__(
        self,
        id: str | None = None,  # noqa: A002  (Celery's name)
        results: Iterable[Handle] = (),
        parent: Handle | None = None,
        *,
        departure: Departure | None = None,
    ) -> None:
        super().__init__(results)
        self.id = id
        self.parent = parent
        self._departure = departure

    def save(self, backend: Given = None) -> None:
        """Keep the ids in the store, so that `restore` finds the group; in a transaction, when it commits.

        Raises:
            NotImplementedError: the store cannot keep groups.
        """
        if not self.id:
            raise ValueError("A group without an id cannot be kept: nobody could ask for it.")
        store, members, group_id = backends.meant_by(backend), self.as_tuple(), self.id
        if self._departure is None or self._departure.state == SENT:
            store.save_group(group_id, members)
        else:
            self._departure.when_sent(lambda: store.save_group(group_id, members))

    def delete(self, backend: Given = None) -> None:
        """Delete what `save` kept."""
        backends.meant_by(backend).delete_group(self.id or "")

    @classmethod
    def restore(
        cls,
        id: str,  # noqa: A002  (Celery's name)
        backend: Given = None,
    ) -> GroupResult | None:
        """Return the group that was saved under this id, or None."""
        members = backends.meant_by(backend).restore_group(id)
        restored = None if members is None else result_from_tuple(members, backend)
        return restored if isinstance(restored, GroupResult) else None

    async def asave(self, backend: Given = None) -> None:
        """Do as `save` does, without blocking the event loop."""
        await sync_to_async(self.save)(backend)

    @classmethod
    async def arestore(
        cls,
        id: str,  # noqa: A002
        backend: Given = None,
    ) -> GroupResult | None:
        """Do as `restore` does, without blocking the event loop."""
        return await sync_to_async(cls.restore)(id, backend)

    def leaves_with(self, departure: Departure) -> None:
        """Share the fate of these messages: without them the group is never sent."""
        self._departure = departure

    @property
    def children(self) -> list[Handle]:
        """The results of the members."""
        return self.results

    @property
    def root(self) -> Handle:
        """The first of the parents, or this handle itself."""
        return self if self.parent is None else self.parent.root

    def as_tuple(self) -> tuple[Any, Any]:
        """Return the handle as builtins, for `result_from_tuple`."""
        parent = None if self.parent is None else self.parent.as_tuple()
        return (self.id, parent), [result.as_tuple() for result in self.results]

    def as_list(self) -> list[str]:
        """Return the ids of this group and of its parents."""
        return [*([self.id] if self.id else []), *(self.parent.as_list() if self.parent is not None else ())]

    def forget(self) -> None:
        """Delete what the store holds about the tasks and about their parents."""
        super().forget()
        if self.parent is not None:
            self.parent.forget()

    def __bool__(self) -> bool:
        return bool(self.id or self.results)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GroupResult):
            return (self.id, self.results) == (other.id, other.results)
        return self.id == other if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(self.id)

    def __str__(self) -> str:
        return str(self.id)

    def __repr__(self) -> str:
        return f"<GroupResult: {self.id} [{', '.join(str(result) for result in self.results)}]>"

    def __reduce__(self) -> tuple[Any, ...]:
        return GroupResult, (self.id, self.results, self.parent)


def result_from_tuple(described: Any, backend: Given = None) -> Any:
    """Return the handle of a task or of a group that `as_tuple` described."""
    if isinstance(described, AsyncResult | GroupResult):
        return described
    head, members = described
    own_id, parent = (head, None) if isinstance(head, str) else head
    above = result_from_tuple(parent, backend) if parent else None
    if members is None:
        return AsyncResult(own_id, backend, parent=above)
    return GroupResult(own_id, [result_from_tuple(member, backend) for member in members], above)


def _has_ended(leaf: AsyncResult[Any]) -> bool:
    return leaf._final is not None or leaf.ignored or isinstance(leaf, EagerResult)


def _meta(leaf: AsyncResult[Any]) -> dict[str, Any]:
    if leaf._final is not None:
        return leaf._final.as_meta()
    return {"status": leaf.state, "result": leaf.result, "traceback": leaf.traceback, "task_id": leaf.id}


AsyncResult.from_tuple = staticmethod(result_from_tuple)
