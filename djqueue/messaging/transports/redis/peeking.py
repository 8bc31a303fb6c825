"""Sleeping until a message arrives, without taking it: a thread per queue that looks and wakes the worker.

`BLMOVE list list RIGHT RIGHT` waits for a list to have an element and leaves it where it is, so nothing is
lost if this process dies or the reply does. Only one list can be watched so; the lists of lower priorities
are looked at between two waits, more often while they are in use.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Event, Thread

from djqueue.exceptions import OperationalError
from djqueue.messaging import log_lines
from djqueue.messaging.transports.redis.connections import Refused, Server

#: how often lists that cannot be waited for are looked at: while they are in use, and otherwise, seconds
OFTEN, SELDOM = 0.1, 0.5
#: a list that had something in it counts as in use for so long, seconds
IN_USE = 60.0
#: after an error, seconds
PAUSE = 0.5
#: more queues than this share the last thread
MOST_THREADS = 8


class Peeker:
    """One thread that waits for one list and looks at some others. It peeks only after it was armed."""

    def __init__(
        self, server: Server, awaited: str, looked_at: Sequence[str], wake: Callable[[], None]
    ) -> None:
        self._wire = server.wire(answers_within=server.options.socket_timeout + SELDOM)
        self._awaited = awaited
        self._looked_at = tuple(looked_at)
        self._wake = wake
        self._armed = Event()
        self._stopping = False
        self._in_use_until = 0.0
        self._thread = Thread(target=self._run, name="djqueue-peek", daemon=True)
        self._thread.start()

    def arm(self) -> None:
        """Wake the worker when there is a message, or at once if there is one already."""
        self._armed.set()

    def stop(self) -> None:
        """End the thread."""
        self._stopping = True
        self._armed.set()
        self._wire.close()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while True:
            self._armed.wait()
            if self._stopping:
                return
            try:
                found = self._peek()
            except Refused:  # a full server refuses to wait, and can still be asked
                found = self._ask((self._awaited, *self._looked_at))
            except OperationalError:
                found = False
                self._pause()
            except Exception as error:  # without this thread nobody would be woken any more
                found = False
                if not self._stopping:  # closing a connection under a thread makes it fail in any way
                    log_lines.thread_failed(f"{type(error).__name__}: {error}")
                self._pause()
            if found:
                self._armed.clear()
                self._wake()

    def _peek(self) -> bool:
        """Wait a moment; return whether there is a message."""
        wait = OFTEN if time.monotonic() < self._in_use_until else SELDOM
        if self._wire.call("BLMOVE", self._awaited, self._awaited, "RIGHT", "RIGHT", wait) is not None:
            return True
        if self._looked_at and self._wire.call("EXISTS", *self._looked_at):
            self._in_use_until = time.monotonic() + IN_USE
            return True
        return False

    def _ask(self, lists: Sequence[str]) -> bool:
        self._pause()
        try:
            return bool(self._wire.call("EXISTS", *lists))
        except OperationalError:
            return False

    def _pause(self) -> None:
        if not self._stopping:
            time.sleep(PAUSE)


def peekers(server: Server, lists: Sequence[Sequence[str]], wake: Callable[[], None]) -> list[Peeker]:
    """Start the threads for queues, of which the lists are given: the first of each is waited for."""
    if not lists:
        return []
    first = [one[0] for one in lists]
    awaited, rest = first[:MOST_THREADS], first[MOST_THREADS:]
    looked_at = [*rest, *(key for one in lists for key in one[1:])]
    made = [Peeker(server, key, (), wake) for key in awaited[1:]]
    return [Peeker(server, awaited[0], looked_at, wake), *made]
