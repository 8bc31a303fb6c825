"""Running an `async def` task from the synchronous code that executes tasks.

asgiref runs the coroutine in a loop of its own, and what it calls through `sync_to_async` in this thread, so
that database connections behave. An exception that interrupts the waiting (a soft time limit) cancels the
coroutine, so that it never outlives its run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from threading import Event
from typing import Any

from asgiref.sync import async_to_sync


def run_coroutine(function: Callable[..., Awaitable[Any]], args: Any, kwargs: Any) -> Any:
    """Call the function, wait for what it returns, and return that."""
    coroutine = _Interruptible(function, args, kwargs)
    try:
        return async_to_sync(coroutine.run)()
    except BaseException:
        coroutine.interrupt()
        raise


class _Interruptible:
    """One coroutine that can be cancelled from the thread that waits for it."""

    def __init__(self, function: Callable[..., Awaitable[Any]], args: Any, kwargs: Any) -> None:
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._ended = Event()

    async def run(self) -> Any:
        """Await the function's coroutine."""
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        try:
            return await self._function(*self._args, **self._kwargs)
        finally:
            self._ended.set()

    def interrupt(self) -> None:
        """Cancel the coroutine if it still runs, and wait until it has ended."""
        if self._loop is None or self._task is None or self._ended.is_set():
            return
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._ended.wait()
