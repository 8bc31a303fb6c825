"""Django around a task: what Django does around a request, without a request.

Execution enters before user code and leaves after it; connections that have become unusable or too old are
closed, caches too. A child process calls `after_fork` first, because it must not touch what the parent has
open.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from django.core.cache import caches, close_caches
from django.core.cache.backends.base import BaseCache
from django.db import connections
from django.utils.module_loading import import_string

from djqueue.messaging.commits import is_in_testcase


class UnitOfWork:
    """The time that one task takes: `with UnitOfWork(): …`.

    A task that runs inside a `TestCase` leaves the test's connection, transaction and query log alone.
    """

    __slots__ = ("_connections",)

    def __enter__(self) -> None:
        # What reset_queries() and close_old_connections() do, in one pass: it runs for every task.
        self._connections = connections.all(initialized_only=True)
        for connection in self._connections:
            if not is_in_testcase(connection):
                connection.queries_log.clear()
                connection.close_if_unusable_or_obsolete()

    def __exit__(self, *error: object) -> None:
        # Looking connections up costs more than all the rest: not again if there can be no others.
        if len(self._connections) < len(connections.settings):
            self._connections = connections.all(initialized_only=True)
        for connection in self._connections:
            if not is_in_testcase(connection):
                connection.close_if_unusable_or_obsolete()
        if any(_keeps_connections(one["BACKEND"]) for one in caches.settings.values()):
            close_caches()


@lru_cache
def _keeps_connections(backend: str) -> bool:
    """Return whether closing a cache does anything: that is known sooner than whether one was opened."""
    try:
        return import_string(backend).close is not BaseCache.close
    except ImportError:  # so nobody can have opened it
        return False


def close_connections() -> None:
    """Close every connection of this thread (called when a thread that ran tasks ends)."""
    connections.close_all()
    for kept in connections.all(initialized_only=True):
        # Django leaves a database in memory open; the thread's own view of it ends with the thread.
        if kept.connection is not None and not kept.allow_thread_sharing:
            kept.connection.close()
            kept.connection = None
    close_caches()


def after_fork() -> None:
    """Forget inherited database connections without a byte to their servers (called in the child).

    A polite goodbye would end the parent's session. The inherited objects stay alive, so that no finalizer
    says it, and their sockets are replaced, so that nothing that is said arrives.
    """
    for inherited in connections.all(initialized_only=True):
        if inherited.connection is None:
            continue
        _silence(inherited.connection)
        alias = inherited.alias
        del connections[alias]
        connections[alias].inherited = inherited  # type: ignore[attr-defined]  # kept, never used


def _silence(connection: Any) -> None:
    """Put /dev/null in the place of the connection's socket, if it has one of its own."""
    fileno: Callable[[], int] | None = getattr(connection, "fileno", None)
    if fileno is None:
        return
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.dup2(nothing, fileno(), inheritable=False)
    finally:
        os.close(nothing)
