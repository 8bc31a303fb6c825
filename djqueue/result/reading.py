"""How handles read a store: what is remembered is not asked for, and a store that is away is asked again.

A store and ids of tasks come in, documents leave. By default nothing is remembered, and a store that cannot
be read raises at once; RESULT_CACHE_MAX and RESULT_BACKEND_ALWAYS_RETRY say otherwise.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from math import inf
from typing import TypeVar

from djqueue.conf import settings
from djqueue.core.retrying import may_retry
from djqueue.exceptions import BackendGetMetaError
from djqueue.result.contract import ResultBackend
from djqueue.result.documents import Document

T = TypeVar("T")

#: beyond this exponent every pause is the longest
_LARGEST_EXPONENT = 64


def read(store: ResultBackend, task_ids: Sequence[str]) -> dict[str, Document]:
    """Return the documents by task id; unknown ids are missing.

    Raises:
        BackendGetMetaError: the store cannot be read.
    """
    found = store.memory.recall(task_ids)
    missing = [task_id for task_id in task_ids if task_id not in found] if found else task_ids
    if missing:
        fetched = _patiently(lambda left: store.fetch_many(missing), inf)
        if fetched:
            store.memory.note(fetched.values())
            found.update(fetched)
    return found


def wait(
    store: ResultBackend, task_id: str, timeout: float | None, interval: float | None = None
) -> Document | None:
    """Return the task's document once its state is terminal, or None after `timeout` seconds.

    Raises:
        BackendGetMetaError: the store cannot be read.
    """
    remembered = store.memory.recall([task_id]).get(task_id)
    if remembered is not None:
        return remembered
    found = _patiently(
        lambda left: store.wait(task_id, None if left == inf else left, interval),
        inf if timeout is None else timeout,
    )
    if found is not None:
        store.memory.note([found])
    return found


def forget(store: ResultBackend, task_ids: Sequence[str]) -> None:
    """Delete the documents; unknown ids are fine."""
    store.memory.drop(task_ids)
    store.forget_many(task_ids)


def _patiently(ask: Callable[[float], T], seconds: float) -> T | None:
    """Return what `ask` returns, which is told how many seconds are left; None if they are over before."""
    deadline = time.monotonic() + seconds
    tries = 0
    while True:
        try:
            return ask(max(deadline - time.monotonic(), 0.0) if tries else seconds)
        except BackendGetMetaError:
            most = settings.RESULT_BACKEND_MAX_RETRIES
            if not (settings.RESULT_BACKEND_ALWAYS_RETRY and may_retry(tries, most)):
                raise
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        time.sleep(min(_pause(tries), left))
        tries += 1


def _pause(tries: int) -> float:
    """Return the seconds before the next try: up to twice as many as before, by chance."""
    longest = settings.RESULT_BACKEND_MAX_SLEEP_BETWEEN_RETRIES_MS
    base = settings.RESULT_BACKEND_BASE_SLEEP_BETWEEN_RETRIES_MS
    return random.uniform(0.0, min(longest, base * 2 ** min(tries, _LARGEST_EXPONENT))) / 1000
