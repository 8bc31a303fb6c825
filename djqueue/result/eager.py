"""The handle of a task that ran at once, in the calling process: everything is known already.

`Task.apply`, and every way of sending with TASK_ALWAYS_EAGER, give one. It reads like an `AsyncResult`
without a store behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from djqueue.result.documents import Document
from djqueue.result.handles import AsyncResult

R = TypeVar("R")


class EagerResult(AsyncResult[R]):
    """A task that has ended. `ret_value` is what it returned, or the exception it raised."""

    def __init__(
        self,
        id: str,  # noqa: A002  (Celery's name)
        ret_value: Any,
        state: str,
        traceback: str | None = None,
        name: str | None = None,
        *,
        parent: AsyncResult[Any] | None = None,
        children: list[AsyncResult[Any]] | None = None,
    ) -> None:
        super().__init__(id, task_name=name, parent=parent)
        self._value = ret_value
        self._state = state
        self._traceback = traceback
        self._children = children or []

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
        """Return the result at once, or raise the exception the task ended with."""
        return self._hand_over(propagate, callback)

    async def aget(
        self,
        timeout: float | None = None,  # noqa: ASYNC109  (the twin of `get`)
        propagate: bool = True,
        interval: float | None = None,
        follow_parents: bool = True,
        callback: Callable[[str, Any], None] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> R:
        """Do as `get` does."""
        return self._hand_over(propagate, callback)

    def ready(self) -> bool:
        """Return True: the task has ended."""
        return True

    def exists(self) -> bool:
        """Return True: this handle itself holds what there is."""
        return True

    def forget(self) -> None:
        """Do nothing: nothing was stored."""

    @property
    def state(self) -> str:
        """The state the task ended in."""
        return self._state

    status = state

    @property
    def result(self) -> Any:
        """What the task returned, or the exception it raised."""
        return self._value

    info = result

    @property
    def traceback(self) -> str | None:
        """The traceback of the exception, as text."""
        return self._traceback

    @property
    def date_done(self) -> datetime | None:
        """None: nobody keeps the time."""
        return None

    @property
    def children(self) -> list[AsyncResult[Any]]:
        """The tasks that this one sent, those that follow it included."""
        return self._children

    def _read(self) -> Document | None:
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return EagerResult, (self.id, self._value, self._state, self._traceback, self._task_name)

    def __repr__(self) -> str:
        return f"<EagerResult: {self.id} {self._state}>"
