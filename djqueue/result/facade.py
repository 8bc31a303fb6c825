"""A result store by the names that Celery's users know: what `app.backend` and a task's `backend` are.

What callers, operators and tasks that are ended from outside do with a store is here. How workers count the
parts of chords is not: stores say that in terms of their own (`contract.GroupStore`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from djqueue import states
from djqueue.core.requests import Request
from djqueue.exceptions import TaskRevokedError
from djqueue.result import reading, records
from djqueue.result.contract import ResultBackend
from djqueue.result.groups import GroupResult, ResultSet
from djqueue.result.handles import AsyncResult

Meta = dict[str, Any]


class OfStore:
    """Something that does its work with a store."""

    def __init__(self, store: ResultBackend) -> None:
        self.store = store


class Abilities(OfStore):
    """What a store is, can do, and has to be told now and then."""

    #: how often Celery's waiters ask in between; here the store says when
    subpolling_interval: float | None = None

    def as_uri(self, include_password: bool = False) -> str:
        """Return the store's address, with passwords masked unless they are asked for."""
        return self.store.url if include_password else self.store.as_uri()

    @property
    def supports_native_join(self) -> bool:
        """Whether many results are read in one step."""
        return self.store.keeps

    @property
    def supports_autoexpire(self) -> bool:
        """Whether the store deletes by itself what has expired."""
        return self.store.expires_by_itself

    @property
    def persistent(self) -> bool:
        """Whether results outlive restarts, as far as that is up to djqueue."""
        return self.store.persists

    @property
    def supports_failure_expires(self) -> bool:
        """Whether RESULT_FAILURE_EXPIRES holds."""
        return self.store.parts_failures

    @property
    def supports_result_compression(self) -> bool:
        """Whether RESULT_COMPRESSION holds."""
        return self.store.compresses

    def ensure_chords_allowed(self) -> None:
        """Do nothing if chords can be completed with this store.

        Raises:
            NotImplementedError: only the sender can read its results, or nobody.
        """
        self.store.check_chords()

    def on_task_call(self, producer: Any = None, task_id: str | None = None) -> None:
        """Be told that a task is about to be sent whose result may be asked for; which one is all the same.

        Raises:
            djqueue.exceptions.OperationalError: what results come through could not be made ready.
        """
        self.store.expect_results()

    def cleanup(self) -> int:
        """Delete what is older than RESULT_EXPIRES, and return how many documents that were."""
        return self.store.clean_up()

    def process_cleanup(self) -> None:
        """Close what this process has open; the store can be used again."""
        self.store.close()


class Readings(OfStore):
    """What is kept of tasks and groups, and waiting for it."""

    def get_task_meta(self, task_id: str, cache: bool = True) -> Meta:
        """Return what is known of the task as Celery's dictionary, with the result decoded.

        Of a task that is not known it says PENDING. Without `cache` the store is asked though the result
        is remembered (RESULT_CACHE_MAX).
        """
        _check_id(task_id)
        if not cache:
            self.store.memory.drop([task_id])
        document = reading.read(self.store, [task_id]).get(task_id)
        return {"status": states.PENDING, "result": None} if document is None else document.as_meta()

    def reload_task_result(self, task_id: str) -> None:
        """Ask the store anew, and remember what it says."""
        self.get_task_meta(task_id, cache=False)

    def get_state(self, task_id: str) -> str:
        """Return the task's state."""
        return str(self.get_task_meta(task_id)["status"])

    get_status = get_state

    def get_result(self, task_id: str) -> Any:
        """Return what the task returned, the exception it raised, or the meta of a custom state."""
        return self.get_task_meta(task_id)["result"]

    def get_traceback(self, task_id: str) -> str | None:
        """Return the traceback of the task's exception, as text."""
        traceback: str | None = self.get_task_meta(task_id).get("traceback")
        return traceback

    def get_children(self, task_id: str) -> list[Any] | None:
        """Return what the task sent, as `result_from_tuple` takes them."""
        children: list[Any] | None = self.get_task_meta(task_id).get("children")
        return children

    def add_pending_result(self, result: AsyncResult[Any]) -> AsyncResult[Any]:
        """Be told that somebody will wait for this result; return it."""
        self.store.expect_results()
        return result

    def wait_for(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float | None = None,
        on_interval: Callable[[], None] | None = None,
    ) -> Meta:
        """Wait for the task to end, at most `timeout` seconds, and return its meta.

        Raises:
            djqueue.exceptions.TimeoutError: it did not end.
        """
        self.wait_for_pending(
            AsyncResult(task_id, self.store), timeout, interval, on_interval, propagate=False
        )
        return self.get_task_meta(task_id)

    def wait_for_pending(
        self,
        result: AsyncResult[Any],
        timeout: float | None = None,
        interval: float | None = None,
        on_interval: Callable[[], None] | None = None,
        callback: Callable[[str, Any], None] | None = None,
        propagate: bool = True,
    ) -> Any:
        """Wait for a handle's task, and return or raise what it ended with, as `AsyncResult.get` does."""
        return result.get(
            timeout,
            propagate,
            interval,
            callback=callback,
            on_interval=on_interval,
            disable_sync_subtasks=False,
        )

    def iter_native(
        self,
        result: ResultSet,
        timeout: float | None = None,
        interval: float | None = None,
        on_interval: Callable[[], None] | None = None,
    ) -> Iterator[tuple[str, Meta]]:
        """Yield the id and meta of each of the tasks as it ends."""
        return result.iter_native(timeout, interval, on_interval)

    def restore_group(self, group_id: str) -> GroupResult | None:
        """Return the handle of the group that was kept, or None."""
        return GroupResult.restore(group_id, self.store)

    def get_group_meta(self, group_id: str) -> Mapping[str, Any]:
        """Return the kept group as Celery's dictionary; of one that is not known it says PENDING."""
        kept = self.restore_group(group_id)
        return {"status": states.PENDING, "result": None} if kept is None else {"result": kept}


class Writings(OfStore):
    """Setting the states of tasks, keeping groups, and deleting both."""

    def store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: str | None = None,
        request: Request | None = None,
    ) -> Any:
        """Keep a state with its result, meta or exception; return that.

        With the `request` of the task's run the document is the run's own: its attempt, parents, children.
        Without, it counts for the attempt that the store knows. A success that is kept is final.
        """
        _check_id(task_id)
        if request is None:
            records.set_from_outside(self.store, task_id, state, result, traceback)
        else:
            encoded = records.encode_state(state, result)
            document = records.record(request, state, encoded, traceback=traceback)
            self.store.store_many([replace(document, task_id=task_id)])
        return result

    def mark_as_started(self, task_id: str, **meta: Any) -> Any:
        """Keep STARTED; further keywords are its meta, such as `pid` and `hostname`."""
        return self.store_result(task_id, meta, states.STARTED)

    def mark_as_done(
        self,
        task_id: str,
        result: Any,
        request: Request | None = None,
        store_result: bool = True,
        state: str = states.SUCCESS,
    ) -> None:
        """Keep that the task returned `result`; without `store_result` nothing is done."""
        if store_result:
            self.store_result(task_id, result, state, request=request)

    def mark_as_failure(
        self,
        task_id: str,
        exc: BaseException,
        traceback: str | None = None,
        request: Request | None = None,
        store_result: bool = True,
        state: str = states.FAILURE,
    ) -> None:
        """Keep that the task raised `exc`; without `store_result` nothing is done. Errbacks are not sent."""
        if store_result:
            self.store_result(task_id, exc, state, traceback, request)

    def mark_as_retry(
        self,
        task_id: str,
        exc: BaseException,
        traceback: str | None = None,
        request: Request | None = None,
        store_result: bool = True,
        state: str = states.RETRY,
    ) -> None:
        """Keep that the task will be tried again because of `exc`. Nothing is sent."""
        self.mark_as_failure(task_id, exc, traceback, request, store_result, state)

    def mark_as_revoked(
        self,
        task_id: str,
        reason: str = "",
        request: Request | None = None,
        store_result: bool = True,
        state: str = states.REVOKED,
    ) -> None:
        """Keep that the task was revoked, and why. Workers are not told; `app.control.revoke` does that."""
        self.mark_as_failure(task_id, TaskRevokedError(reason), None, request, store_result, state)

    def forget(self, task_id: str) -> None:
        """Delete what is kept of the task; nothing is fine."""
        _check_id(task_id)
        reading.forget(self.store, [task_id])

    def save_group(self, group_id: str, result: GroupResult) -> GroupResult:
        """Keep the group's handle for RESULT_EXPIRES; return it."""
        if not isinstance(result, GroupResult):
            raise TypeError(f"What is kept of a group is its GroupResult, not {result!r}.")
        self.store.save_group(group_id, result.as_tuple())
        return result

    def delete_group(self, group_id: str) -> None:
        """Forget the group; one that is not kept is fine."""
        self.store.delete_group(group_id)


class Backend(Abilities, Readings, Writings):
    """A store, under Celery's names; `store` is the store itself.

    Methods that take an id raise `ValueError` if it is none. Those that ask the store raise
    `BackendGetMetaError` or `BackendStoreError` where it is away, and `NotImplementedError` where it keeps
    nothing or no groups.
    """

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.as_uri()}>"


def _check_id(task_id: str) -> None:
    if not isinstance(task_id, str) or not task_id:
        raise ValueError(f"A result is found by the id of its task, a text; the id given is {task_id!r}.")
