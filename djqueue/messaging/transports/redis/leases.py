"""Being alive in the eyes of others: a consumer's lease, renewed on a thread and a connection of its own.

The worker's loop asks whether the lease still holds; the thread renews it whatever the loop is busy with, and
notes which messages are being run, for those who may have to take them over. Time is the server's; this
process's clock only measures how long ago something was.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Thread

from djqueue.exceptions import OperationalError
from djqueue.messaging import log_lines, machines
from djqueue.messaging.startboard import read_started_tags
from djqueue.messaging.transports.redis import scripts
from djqueue.messaging.transports.redis.connections import Refused, Server, Wire
from djqueue.messaging.transports.redis.keys import Keys

#: how long what is known of a consumer outlives it, ms
NODE_KEPT = 24 * 3600 * 1000
#: how often the thread notes which messages are being run, and tries again after an error, seconds
STEP = 0.5
#: without an answer the lease counts as lost so long before it is, seconds
MARGIN = 1.0
#: the server's clock and ours may drift apart so much between two looks, seconds
DRIFT = 1.5
#: a clock that is further off than this is worth a line, seconds
SKEW = 2.0


class Lease:
    """One consumer id's right to hold messages. No id is used again: after a loss `renamed` gives another.

    Written by the thread, read by the loop: `is_lost`, `calm_since`, `_renewed`, `_clock`. Written by the
    loop, read by the thread: `_queues`.
    """

    def __init__(
        self, server: Server, keys: Keys, queues: Sequence[str], name: str, board: Path | None
    ) -> None:
        self.consumer = machines.new_consumer()
        self._server = server
        self._keys = keys
        self._queues = tuple(queues)
        self._name = name
        self._board = board
        self._length = server.options.lease
        #: the consumer was declared dead; what it held belongs to others
        self.is_lost = False
        #: since when Redis has answered without a break and without jumps of its clock, monotonic seconds
        self.calm_since = 0.0
        self._renewed = 0.0
        #: what the server's clock showed last, in ms, and when that was, in monotonic seconds
        self._clock = (0.0, 0.0)
        self._started: list[str] = []
        self._stop = Event()
        self._thread: Thread | None = None
        self._wire: Wire | None = None

    @property
    def may_start(self) -> bool:
        """Whether the lease certainly still holds, so that work may be begun under it."""
        margin = min(MARGIN, self._length / 5)
        return not self.is_lost and time.monotonic() < self._renewed + self._length - margin

    @property
    def is_calm(self) -> bool:
        """Whether Redis has been well for so long that every living consumer has had time to renew."""
        return not self.is_lost and time.monotonic() - self.calm_since >= self._length / 2

    def latest_plausible(self) -> float:
        """Return the latest time the server's clock can show now, in ms, unless it was set forward."""
        showed, seen_at = self._clock
        return showed + (time.monotonic() - seen_at + DRIFT) * 1000

    def take(self, wire: Wire) -> None:
        """Make the consumer known, with its first lease."""
        keys = self._keys
        began = time.monotonic()
        node = {
            "name": self._name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "queues": json.dumps(self._queues),
            "since": f"{time.time():.3f}",
        }
        server_ms = wire.run(
            scripts.REGISTER,
            [
                keys.leases,
                keys.node(self.consumer),
                keys.machine(machines.machine_of(self.consumer)),
                *map(keys.consumers, self._queues),
            ],
            [self.consumer, self._lease_ms, NODE_KEPT, *(item for pair in node.items() for item in pair)],
        )
        self._renewed = self.calm_since = began
        self._clock = (server_ms, time.monotonic())
        skew = time.time() - server_ms / 1000
        if abs(skew) > SKEW:
            log_lines.clock_skew(skew)

    def keep(self, wake: Callable[[], None]) -> None:
        """Start the thread; it calls `wake` when the lease is lost."""
        self._wire = self._server.wire(
            answers_within=min(self._server.options.socket_timeout, self._length / 3)
        )
        self._thread = Thread(target=self._run, args=(wake,), name="djqueue-lease", daemon=True)
        self._thread.start()

    def consume(self, queues: Sequence[str], wire: Wire) -> None:
        """Be known as a consumer of these queues; the one who lost the lease finds out by `is_lost`.

        The node may name more queues than are consumed, never fewer: whoever takes over goes by it.
        """
        known = json.dumps([*dict.fromkeys((*self._queues, *queues))])
        wire.call("HSET", self._keys.node(self.consumer), "queues", known)
        self._queues = tuple(queues)
        if not self._renew(wire):
            self.is_lost = True

    def renamed(self) -> Lease:
        """Return a new lease for the same worker; this one's thread ends."""
        self.stop()
        return Lease(self._server, self._keys, self._queues, self._name, self._board)

    def stop(self) -> None:
        """End the thread. May be called twice."""
        self._stop.set()
        if self._wire is not None:
            self._wire.close()
        if self._thread is not None:
            self._thread.join(timeout=1.0)
            self._thread = None

    @property
    def _lease_ms(self) -> int:
        return round(self._length * 1000)

    def _run(self, wake: Callable[[], None]) -> None:
        wire = self._wire
        assert wire is not None
        pause = min(STEP, self._length / 10)
        next_renewal = time.monotonic() + self._length / 3
        while not self._stop.wait(pause):
            try:
                if time.monotonic() >= next_renewal:
                    next_renewal = time.monotonic() + self._length / 3
                    if not self._renew(wire):
                        self.is_lost = True
                        wake()
                        return
                self._note_started(wire)
            except OperationalError:
                self.calm_since = time.monotonic()
                next_renewal = 0.0  # the loop says what is wrong with the broker; here only time counts
            except Exception as error:  # without this thread everything held would be lost
                if not self._stop.is_set():  # closing a connection under a thread makes it fail in any way
                    log_lines.thread_failed(f"{type(error).__name__}: {error}")
                next_renewal = 0.0

    def _renew(self, wire: Wire) -> bool:
        keys = self._keys
        began = time.monotonic()
        holds, server_ms = wire.run(
            scripts.RENEW,
            [
                keys.leases,
                keys.node(self.consumer),
                keys.own(self.consumer),
                keys.unacked_index,
                *map(keys.consumers, self._queues),
            ],
            [self.consumer, self._lease_ms, NODE_KEPT],
        )
        now = time.monotonic()
        showed, seen_at = self._clock
        if abs(server_ms - showed - (now - seen_at) * 1000) > DRIFT * 1000:
            self.calm_since = now  # its clock was set: leases that seem to have ended may not have
        self._clock = (server_ms, now)
        if holds:
            self._renewed = began
        return bool(holds)

    def _note_started(self, wire: Wire) -> None:
        """Write down what is being run, for survivors on other machines: they cannot read the board."""
        if self._board is None:
            return
        try:
            started = read_started_tags(self._board)
        except OSError:
            return
        if started == self._started:
            return
        try:
            wire.call("HSET", self._keys.node(self.consumer), "started", " ".join(started))
        except Refused:  # a full server: it matters less than the renewals
            return
        self._started = started
