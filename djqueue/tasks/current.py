"""The task that is being run here, for code that has no `self`: `current_task.request.id`.

Helpers called by tasks come in; what they read is the running task's.
"""

from __future__ import annotations

from typing import Any

from djqueue.core.registry import tasks
from djqueue.core.requests import current_request


class CurrentTask:
    """Stands for the running task; false when there is none."""

    def __getattr__(self, name: str) -> Any:
        task = _task()
        if task is None:
            raise AttributeError(f"No task is being run here, so current_task has no {name!r}.")
        return getattr(task, name)

    def __bool__(self) -> bool:
        return _task() is not None

    def __repr__(self) -> str:
        return f"<current_task: {_task()!r}>"


def _task() -> Any:
    request = current_request()
    return None if request is None else tasks.get(request.task)


current_task = CurrentTask()
