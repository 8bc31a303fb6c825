"""Whether an exception makes a task retry by itself: `autoretry_for` and the options around it.

Execution comes in with what the task raised, while it is being handled; a `Retry` leaves, or the exception
that counts.
"""

from __future__ import annotations

from typing import Any

from djqueue.core.retrying import backoff, backoff_factor
from djqueue.exceptions import Retry, TaskPredicate
from djqueue.tasks.running import Running


def retried(task: Running[Any, Any], exc: BaseException) -> BaseException:
    """Return the `Retry` that `exc` leads to, or the exception the task fails with.

    Must be called while `exc` is being handled.
    """
    wanted, unwanted = task.option("autoretry_for"), (*task.option("dont_autoretry_for"), TaskPredicate)
    if not wanted or not isinstance(exc, wanted) or isinstance(exc, unwanted):
        return exc
    how = dict(task.option("retry_kwargs"))
    factor = backoff_factor(task.option("retry_backoff"))
    if factor is not None:
        how["countdown"] = backoff(
            task.request.retries, factor, task.option("retry_backoff_max"), task.option("retry_jitter")
        )
    try:
        retry: Retry = task.retry(exc=exc, **{**how, "throw": True})
    except BaseException as decided:
        return decided
    return retry
