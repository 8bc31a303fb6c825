"""The thread that keeps a claimer alive in the eyes of others, on a connection of its own.

It holds the claimer's lock, renews its lease, notes what the worker runs, and listens for wake-ups, whatever
the worker's loop is busy with. The loop reads what it says of itself; nothing else is shared.
"""

from __future__ import annotations

import math
import select
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from threading import Event, Thread
from typing import Any

from django.db import DatabaseError, InterfaceError

from djqueue.messaging import log_lines
from djqueue.messaging.startboard import read_started_tags
from djqueue.messaging.transports.database import roll
from djqueue.messaging.transports.database.server import ServerVendor
from djqueue.messaging.transports.database.sessions import Ear

#: how often it is noted what is being run, and looked whether the session is still there, seconds
STEP = 0.5
#: after a failure the first pause, and the longest, seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
#: whoever was woken looks once more after each of these: senders do not ring again at once, seconds
RELOOKS = (0.004, 0.025)
#: how long a claimer that starts waits for its lock, or one that leaves for its thread, seconds
PATIENCE = 3.0


class Keeper:
    """Keeps one claimer's lease.

    Written by the thread, read by others: `is_lost`, `renewed`, `calm_since`, `broken`, `clock`, `hears`,
    `is_pooled`.
    """

    def __init__(
        self, vendor: ServerVendor, key: int, length: float, board: Path | None, began: float, now: float
    ) -> None:
        #: others have declared the claimer dead
        self.is_lost = False
        #: when the lease was last renewed, monotonic seconds
        self.renewed = began
        #: since when the server has answered without a break, monotonic seconds
        self.calm_since = began
        #: when its session was last ended by others, monotonic seconds
        self.broken = -math.inf
        #: the server's time, and when it was that, in monotonic seconds
        self.clock = (now, time.monotonic())
        #: wake-ups arrive
        self.hears = False
        #: a pooler lends us sessions by turns
        self.is_pooled = False
        self._vendor = vendor
        self._key = key
        self._length = length
        self._board = board
        self._queues: Callable[[], Iterable[str]] = tuple
        self._wake: Callable[[], None] | None = None
        self._session = ""
        self._started: list[str] = []
        self._looks: list[float] = []
        self._is_stopping = False
        self._is_settled = Event()
        self._hearing: Ear | None = None
        self._interrupted, self._interrupt = socket.socketpair()
        self._thread = Thread(target=self._run, name="djqueue-lease", daemon=True)

    def start(self) -> None:
        """Begin; return when the lock is held, or cannot be soon."""
        self._thread.start()
        self._is_settled.wait(PATIENCE)

    def listen(self, queues: Callable[[], Iterable[str]], wake: Callable[[], None]) -> None:
        """Call `wake`, from the thread, when messages may have arrived in one of the queues."""
        self._queues = queues
        self._wake = wake

    def stop(self) -> None:
        """End the thread and its session. May be called twice."""
        self._is_stopping = True
        with suppress(OSError):
            self._interrupt.send(b".")
        if self._thread.is_alive():
            self._thread.join(PATIENCE)
        for end in (self._interrupted, self._interrupt):
            end.close()

    # -- in the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._is_stopping and not self.is_lost:
            connection = self._vendor.session()
            try:
                with connection.cursor() as cursor:
                    self._settle_in(cursor)
                    pause = FIRST_PAUSE
                    self._keep(cursor)
            except (DatabaseError, InterfaceError, OSError):
                pass  # the loop says what is wrong with the broker; here only time counts
            except Exception as error:  # without this thread everything held would be lost
                if not self._is_stopping:
                    log_lines.thread_failed(f"{type(error).__name__}: {error}")
            finally:
                self.hears = False
                with suppress(DatabaseError, InterfaceError):
                    connection.close()
            self.calm_since = self.broken = time.monotonic()
            self._sleep(None, pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _settle_in(self, cursor: Any) -> None:
        vendor = self._vendor
        self.is_pooled = vendor.is_pooled(cursor)
        self._session = token_hex(8) if not self.is_pooled and vendor.hold(cursor, self._key) else ""
        self._hearing = None if self.is_pooled else vendor.listen(cursor)
        self._renew(cursor)
        self.hears = self._hearing is not None
        self._is_settled.set()
        self._rouse()  # something may have come while nobody listened

    def _keep(self, cursor: Any) -> None:
        next_renewal = time.monotonic() + self._length / 3
        while not self._is_stopping and not self.is_lost:
            wanted_at = min([next_renewal, *self._looks])
            self._sleep(self._hearing, min(STEP, max(wanted_at - time.monotonic(), 0.0)))
            now = time.monotonic()
            self._hear(now)
            if now >= next_renewal:
                next_renewal = now + self._length / 3
                self._renew(cursor)
            if not self._note_started(cursor) and self._session and self._hearing is None:
                cursor.execute("SELECT 1")  # nothing else would tell soon that the lock is gone

    def _hear(self, now: float) -> None:
        if self._hearing is None:
            return
        notices = self._vendor.heard(self._hearing)
        if any(not queues or not queues.isdisjoint(self._queues()) for queues in notices):
            self._looks = [now + after for after in RELOOKS]
            self._rouse()
        elif self._looks and now >= self._looks[0]:
            self._looks = [at for at in self._looks if at > now]
            self._rouse()

    def _renew(self, cursor: Any) -> None:
        began = time.monotonic()
        now = roll.renew(self._vendor, cursor, self._key, self._session, self._length)
        if now is None:
            self.is_lost = True
            self._rouse()
            return
        ended = time.monotonic()
        if ended - began > self._length / 3 or began - self.renewed > self._length:
            self.calm_since = ended  # whatever held us up may have held up others
        self.clock = (now, ended)
        self.renewed = began

    def _note_started(self, cursor: Any) -> bool:
        """Write down what is being run, for survivors on other machines, who cannot read the board.

        Returns whether it was anything new.
        """
        if self._board is None or self.is_lost:
            return False
        try:
            started = read_started_tags(self._board)
        except OSError:
            return False
        if started == self._started:
            return False
        roll.note_started(cursor, self._key, started)
        self._started = started
        return True

    def _rouse(self) -> None:
        if self._wake is not None:
            self._wake()

    def _sleep(self, hearing: Ear | None, seconds: float) -> None:
        if self._is_stopping:
            return
        files: list[Any] = [self._interrupted] if hearing is None else [self._interrupted, hearing]
        ready, _, _ = select.select(files, [], [], seconds)
        if self._interrupted in ready:
            self._interrupted.recv(64)
