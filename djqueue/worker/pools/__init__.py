"""The pools, and how one is chosen: a short name or a dotted path comes in, a `Pool` leaves.

A pool is imported when it is asked for, so that a worker with threads never loads what prefork needs.
Your own pool is a class that takes the same keyword arguments as those here.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from django.utils.module_loading import import_string

from djqueue.exceptions import ImproperlyConfigured
from djqueue.messaging.startboard import StartBoard
from djqueue.worker.pools.contract import NurseryLost, Pool

__all__ = ["POOL_KINDS", "NurseryLost", "Pool", "create"]

#: short name → where the class is
POOL_KINDS = {
    "prefork": "djqueue.worker.pools.prefork.pool.PreforkPool",
    "processes": "djqueue.worker.pools.prefork.pool.PreforkPool",
    "threads": "djqueue.worker.pools.threads.ThreadsPool",
    "solo": "djqueue.worker.pools.solo.SoloPool",
}


def create(kind: str, *, size: int, board: StartBoard, worker: str, **options: Any) -> Pool:
    """Return a pool that runs `size` jobs at a time and has not been started.

    `kind` is a name of `POOL_KINDS` or the dotted path of a class. `board` needs `size` slots, `worker` is
    the node name that tasks see. Options: `max_tasks_per_child`, `max_memory_per_child` (KiB of resident
    memory), `perform` (what runs a job; `djqueue.tasks.execution.perform`).

    Raises:
        djqueue.exceptions.ImproperlyConfigured: there is no such pool.
    """
    path = POOL_KINDS.get(kind, kind)
    if "." not in path:
        near = get_close_matches(kind, POOL_KINDS)
        meant = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(POOL_KINDS)}."
        raise ImproperlyConfigured(
            f"There is no pool called {kind!r}; {meant} A pool of your own is given by its dotted path."
        )
    try:
        make = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(f"The pool {kind!r} cannot be imported: {error}") from error
    pool: Pool = make(size=size, board=board, worker=worker, **options)
    return pool
