"""Connections that wait for their next use, as any transport keeps them.

A stack: whoever needs one takes it and puts it back. What another process opened is forgotten, not closed.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Closeable(Protocol):
    """What has a connection inside."""

    def close(self) -> None: ...


C = TypeVar("C", bound=Closeable)


class Idle(Generic[C]):
    """A stack of things with connections that wait for their next use; a new process begins with none."""

    def __init__(self, make: Callable[[], C], most: int = 10) -> None:
        self._make = make
        self._most = most
        self._stack: deque[C] = deque()
        self._process = os.getpid()

    def take(self) -> C:
        """Return an idle one, or a new one."""
        if self._process != os.getpid():
            self.forget()
        try:
            return self._stack.pop()
        except IndexError:
            return self._make()

    def put(self, one: C) -> None:
        """Take one back."""
        if len(self._stack) < self._most:
            self._stack.append(one)
        else:
            one.close()

    def forget(self) -> None:
        """Let go of what another process opened, without a word on the wire."""
        self._stack = deque()
        self._process = os.getpid()

    def close(self) -> None:
        """Close all that is idle."""
        while self._stack:
            self._stack.pop().close()
