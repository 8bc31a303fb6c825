"""How long those who wait for a result rest between two looks at the store.

Where the store wakes them, long; where it does not, ever longer, or as long as the caller said. A coroutine
rests in `Naps`, which has itself woken, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Protocol, Self

#: the first pause where nobody wakes us, and the longest, seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.25
#: look whether something was missed where we are woken, seconds
LOOK_AGAIN = 1.0


class Pauses:
    """The pauses of one who waits."""

    def __init__(self, interval: float | None = None) -> None:
        self._interval = interval
        self._next = FIRST_PAUSE

    def next(self, is_woken: bool) -> float:
        """Return how long to rest now, in seconds."""
        if is_woken:
            return LOOK_AGAIN
        pause, self._next = self._next, min(self._next * 1.5, LONGEST_PAUSE)
        return self._interval or pause


class Wakes(Protocol):
    """A store, as far as waking goes."""

    def waking(
        self, task_id: str, wake: Callable[[], None]
    ) -> AbstractContextManager[Callable[[], bool]]: ...


class Naps:
    """The rests of a coroutine that waits for one task, then perhaps for another. A context manager."""

    def __init__(self, interval: float | None) -> None:
        self._pauses = Pauses(interval)
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._listening = ExitStack()
        self._task_id = ""
        self._is_certain: Callable[[], bool] = bool

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()

    async def rest(self, store: Wakes, task_id: str, most: float) -> None:
        """Rest until the task may have ended, or it is time to look; at most so many seconds."""
        if task_id != self._task_id:
            self._listening.close()
            self._is_certain = self._listening.enter_context(store.waking(task_id, self._wake))
            self._task_id = task_id
        with suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), min(self._pauses.next(self._is_certain()), most))
        self._woken.clear()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(self._woken.set)
