"""Waiting inside a task for another one: refused, because it can wait for ever.

Handles ask before they wait; code that knows better says so with `allow_join_result`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from djqueue.core.requests import worker_request


def refuse_inside_a_task(task_id: str) -> None:
    """Raise RuntimeError when a worker runs a task here that would wait for `task_id`."""
    request = worker_request()
    if request is not None and not request.get("join_allowed"):
        raise RuntimeError(
            f"get() was called inside the task {request.task}: it would occupy a worker while it waits for "
            f"another, and both may wait for ever. Let task {task_id} call what comes next (link, chain), or "
            "pass disable_sync_subtasks=False if it cannot block."
        )


@contextmanager
def allow_join_result() -> Iterator[None]:
    """Let `get()` be called inside a task, where the caller knows that it cannot block for ever."""
    request = worker_request()
    if request is None:
        yield
        return
    before = request.get("join_allowed")
    request.join_allowed = True
    try:
        yield
    finally:
        request.join_allowed = before
