"""Waking those who wait for results in PostgreSQL, by LISTEN and NOTIFY, for one process.

Who waits comes in as a `Waiter`; a thread with a session of its own locks the task's number for it, and wakes
it at every notice. `tell` is the other side: who stored ends sends notices for the numbers that are locked,
which are none most of the time. Behind a pooler nobody is woken, and all look by themselves.

The thread ends when nobody has waited for a while, and when the connections of all that waited are closed:
no session is left over that would keep a test database from being dropped.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import monotonic
from typing import Any
from zlib import crc32

from django.db import DatabaseError, InterfaceError

from djqueue.conf import settings
from djqueue.messaging import log_lines
from djqueue.messaging.commits import Joint, join
from djqueue.messaging.transports.database.postgresql import UNSYNCED, is_pooled
from djqueue.messaging.transports.database.sessions import Ear, direct_alias, own_session

CHANNEL = "djqueue_results"
#: the first half of every advisory lock of ours: "djr" as a number
LOCKS = 0x646A72
#: the lock that everyone holds who waits for anything
ANYBODY = 0
#: the session outlives the last who waited by so long, seconds
LINGER = 10.0
#: after a failure the first pause, and the longest, seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
#: how long whoever stops the thread waits for it, seconds
PATIENCE = 3.0

_TELL = (
    "WITH asked AS MATERIALIZED (SELECT NOT pg_try_advisory_xact_lock(%s, %s) AS somebody)"
    f" SELECT {UNSYNCED}, pg_notify('{CHANNEL}', objid::text) FROM pg_locks"
    " WHERE (SELECT somebody FROM asked) AND locktype = 'advisory' AND objsubid = 2 AND classid = %s"
    " AND objid = ANY(%s::bigint[])"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_LOCK = "SELECT pg_advisory_lock_shared(%s, %s), pg_advisory_lock_shared(%s, %s)"
_UNLOCK = "SELECT pg_advisory_unlock_shared(%s, %s), pg_advisory_unlock_shared(%s, %s)"


def number_of(task_id: str) -> int:
    """Return the number under which a task is waited for; two may share one, which costs a look."""
    return crc32(task_id.encode("utf-8", "surrogatepass")) % (2**31 - 1) + 1


class Ends(Joint):
    """Ends of tasks that are told when they are committed."""

    def __init__(self, connection: Any) -> None:
        self.task_ids: list[str] = []
        self._connection = connection

    def __call__(self) -> None:
        """Tell them."""
        tell(self._connection, self.task_ids)


def announce(connection: Any, task_ids: Iterable[str]) -> None:
    """Wake those who wait for the tasks, once what was written on the connection is committed.

    In a transaction that Django does not manage nobody is told: they look by themselves.
    """
    if connection.in_atomic_block:
        join(connection, Ends, lambda: Ends(connection)).task_ids.extend(task_ids)
    elif connection.get_autocommit():
        tell(connection, task_ids)


def tell(connection: Any, task_ids: Iterable[str]) -> None:
    """Send notices for those of the tasks that somebody waits for; one that cannot be sent is none."""
    numbers = list(set(map(number_of, task_ids)))
    with suppress(DatabaseError, InterfaceError), connection.cursor() as cursor:
        cursor.execute(_TELL, [LOCKS, ANYBODY, LOCKS, numbers])


class Waiter:
    """One who waits for a task. `hears` is written by the thread: from now on no end is missed."""

    def __init__(self, task_id: str, wake: Callable[[], None]) -> None:
        self.number = number_of(task_id)
        self.wake = wake
        self.hears = False


class Listener:
    """Those of this process who wait for results on one alias, and the thread that hears for them.

    The methods may be called from any thread, and in an event loop.
    """

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._hearing: _Hearing | None = None
        self.forget()

    def forget(self) -> None:
        """Begin anew: what another process has open stays with it."""
        self._inherited, self._hearing = self._hearing, None  # kept, so that nothing closes it
        self._process = os.getpid()
        self._guard = threading.RLock()  # a dying connection may call `_lose` wherever memory is asked for
        self._waiters: dict[Waiter, None] = {}
        self._lifelines: set[int] = set()
        #: a pooler is in between, so nobody can be woken
        self.is_deaf = False

    @property
    def is_wanted(self) -> bool:
        """Whether anybody waits and could be woken."""
        return bool(self._waiters) and not self.is_deaf

    def waiting(self) -> list[Waiter]:
        """Return all who wait."""
        return list(self._waiters)

    def enter(self, waiter: Waiter) -> None:
        """Wake the waiter from now on, if that can be had."""
        if self._process != os.getpid():
            self.forget()
        with self._guard:
            self._waiters[waiter] = None
            self._begin()

    def leave(self, waiter: Waiter) -> None:
        """Wake the waiter no more."""
        with self._guard:
            self._waiters.pop(waiter, None)
            if self._hearing is not None:
                self._hearing.hurry()

    def live_with(self, session: Any) -> None:
        """Note the driver's connection of one who waits: when all of them are gone, so is the thread."""
        with self._guard:
            if session is not None and id(session) not in self._lifelines:
                self._lifelines.add(id(session))
                weakref.finalize(session, self._lose, id(session), self._process)
            self._begin()

    def stop(self) -> None:
        """End the thread and its session. May be called twice; the next who waits begins anew."""
        with self._guard:
            hearing, self._hearing = self._hearing, None
        if hearing is not None and self._process == os.getpid():
            hearing.stop()

    def ends(self, hearing: _Hearing) -> bool:
        """Return whether the thread may end: it was stopped, or nobody waits."""
        with self._guard:
            if self._hearing is hearing and self.is_wanted:
                return False
            if self._hearing is hearing:
                self._hearing = None
            return True

    def _begin(self) -> None:
        if not self.is_wanted:
            return
        if self._hearing is None:
            self._hearing = _Hearing(self, self._alias)
            self._hearing.start()
        self._hearing.hurry()

    def _lose(self, session: int, process: int) -> None:
        if process != os.getpid():
            return
        with self._guard:
            self._lifelines.discard(session)
            is_last = not self._lifelines
        if is_last:
            self.stop()


class _Hearing:
    """The thread and its session."""

    def __init__(self, listener: Listener, alias: str) -> None:
        self._listener = listener
        self._alias = alias
        self._armed: set[Waiter] = set()
        self._is_stopping = False
        self._interrupted, self._interrupt = socket.socketpair()
        self._interrupt.setblocking(False)
        self._interrupted.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="djqueue-results", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def hurry(self) -> None:
        """Have the thread look who waits."""
        with suppress(OSError):  # it has been told so often that it wakes anyway, or it has ended
            self._interrupt.send(b".")

    def stop(self) -> None:
        """End it."""
        self._is_stopping = True
        self.hurry()
        if self._thread is not threading.current_thread():
            self._thread.join(PATIENCE)

    # -- in the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._is_stopping:
            began = monotonic()
            try:
                self._hear_for_a_while()
            except (DatabaseError, InterfaceError, OSError):
                pass  # those who wait look by themselves meanwhile, and say what is wrong
            except Exception as error:
                log_lines.thread_failed(f"{type(error).__name__}: {error}")
            self._disarm()
            if self._is_stopping or self._listener.ends(self):
                break
            pause = FIRST_PAUSE if monotonic() - began > LONGEST_PAUSE else min(pause * 2, LONGEST_PAUSE)
            self._rest(pause)
        for end in (self._interrupted, self._interrupt):
            end.close()

    def _hear_for_a_while(self) -> None:
        options = settings.RESULT_BACKEND_TRANSPORT_OPTIONS
        alias = direct_alias(self._alias, options, "RESULT_BACKEND_TRANSPORT_OPTIONS")
        connection = own_session(alias)
        try:
            with connection.cursor() as cursor:
                if is_pooled(cursor):
                    self._listener.is_deaf = True
                    log_lines.results_not_announced(alias)
                    return
                self._hear(cursor, Ear(cursor, CHANNEL))
        finally:
            with suppress(DatabaseError, InterfaceError):
                connection.close()

    def _hear(self, cursor: Any, ear: Ear) -> None:
        idle_since = monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(self._interrupted, selectors.EVENT_READ)
            selector.register(ear.fileno(), selectors.EVENT_READ)
            while not self._is_stopping:
                self._adjust(cursor)
                heard = set(map(int, ear.heard()))
                for waiter in self._armed:
                    if waiter.number in heard:
                        waiter.wake()
                now = monotonic()
                if self._armed:
                    idle_since = now
                elif now - idle_since >= LINGER and self._listener.ends(self):
                    return
                selector.select(LINGER)
                self._drain()

    def _adjust(self, cursor: Any) -> None:
        """Lock the numbers of those who are new, and let go of those who left."""
        waiting = set(self._listener.waiting())
        for waiter in self._armed - waiting:
            cursor.execute(_UNLOCK, [LOCKS, ANYBODY, LOCKS, waiter.number])
            self._armed.discard(waiter)
        for waiter in waiting - self._armed:
            cursor.execute(_LOCK, [LOCKS, ANYBODY, LOCKS, waiter.number])
            self._armed.add(waiter)
            waiter.hears = True
            waiter.wake()  # it may have ended while nobody listened

    def _disarm(self) -> None:
        for waiter in self._armed:
            waiter.hears = False
            waiter.wake()
        self._armed = set()

    def _rest(self, seconds: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._interrupted, selectors.EVENT_READ)
            deadline = monotonic() + seconds
            while not self._is_stopping and (left := deadline - monotonic()) > 0:
                selector.select(left)
                self._drain()

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            while self._interrupted.recv(4096):
                continue
