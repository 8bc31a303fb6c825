"""What is sent to everybody: a thread listens to the fan-out channels of a worker's queues.

Messages that are published arrive here and leave as deliveries, one copy in each worker that listens. Redis
keeps none of them: what a worker has not run when it ends is gone, as it is with Celery; while it lives,
messages are given back, put off and buried as any other.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from threading import Event, Thread

from kombu.entity import Queue

from djqueue.exceptions import OperationalError
from djqueue.messaging import log_lines
from djqueue.messaging.delivery import Delivery, How, Settlement
from djqueue.messaging.queues import bindings
from djqueue.messaging.transports.redis import envelope
from djqueue.messaging.transports.redis.connections import Server
from djqueue.messaging.transports.redis.keys import Keys
from djqueue.messaging.transports.redis.options import Options
from djqueue.messaging.transports.redis.settling import dead_letter

#: what the tags of such deliveries begin with
MARK = "broadcast:"
#: the thread looks around at least so often, and pauses so long after an error, seconds
ROUND, PAUSE = 0.5, 0.5
#: messages that wait in memory; beyond that the oldest are dropped, and that is told
MOST_WAITING = 10_000

_SPECIAL = re.compile(r"([\[\]?*\\])")


@dataclass(slots=True)
class Copy:
    """One worker's copy of a message, as it was published."""

    queue: str
    raw: bytes
    starts: int = 0
    redelivered: bool = False


class Channels:
    """The names of the channels that kombu publishes to."""

    def __init__(self, options: Options, db: int) -> None:
        given = options.fanout_prefix
        prefix = given if isinstance(given, str) else "/{db}." if given else ""
        self._prefix = options.global_keyprefix + prefix.format(db=db)
        self._has_patterns = options.fanout_patterns

    def name(self, exchange: str, routing_key: str) -> str:
        """Return the channel for what is sent to an exchange under a key."""
        channel = f"{self._prefix}{exchange}"
        return f"{channel}/{routing_key}" if routing_key and self._has_patterns else channel

    def patterns(self, exchange: str) -> list[str]:
        """Return the patterns of all channels of an exchange: what is sent to everybody has no address."""
        name = _SPECIAL.sub(r"\\\1", f"{self._prefix}{exchange}")
        return [name, f"{name}/*"] if self._has_patterns else [name]


class Broadcasts:
    """What one worker hears. All but the thread's own work is done by the worker's loop."""

    def __init__(self, server: Server, keys: Keys, worker: str) -> None:
        self._server = server
        self._keys = keys
        self._worker = worker
        self._channels = Channels(server.options, server.address.db)
        self._heard: deque[Copy] = deque(maxlen=MOST_WAITING)
        self._later: list[tuple[float, int, Copy]] = []
        self._held: dict[str, Copy] = {}
        self._numbers = count(1)
        self._ear: _Ear | None = None

    def listen(self, queues: Iterable[Queue], wake: Callable[[], None]) -> None:
        """Hear what is sent to the fan-out exchanges of these queues, and of no others, from now on."""
        queues_of: dict[bytes, list[str]] = {}
        for queue in queues:
            for exchange, _ in bindings(queue):
                if exchange.type == "fanout":
                    for pattern in self._channels.patterns(exchange.name):
                        queues_of.setdefault(pattern.encode(), []).append(queue.name)
        if self._ear is not None:
            self._ear.stop()
        self._ear = _Ear(self._server, queues_of, self._heard, wake) if queues_of else None

    def take(self, room: int) -> list[tuple[str, Copy]]:
        """Return up to `room` messages with their tags."""
        taken: list[tuple[str, Copy]] = []
        while self._heard and len(taken) < room:
            copy, tag = self._heard.popleft(), f"{MARK}{next(self._numbers)}"
            self._held[tag] = copy
            taken.append((tag, copy))
        return taken

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """Carry the answers out.

        Raises:
            djqueue.exceptions.OperationalError: a dead letter could not be kept; the same may be asked again.
        """
        for one in reversed(settlements):
            copy = self._held.get(one.delivery.tag)
            if copy is None:
                continue
            copy.starts += one.started
            copy.redelivered |= one.how is not How.ACK
            if one.how is How.BURY:
                self._bury(one, copy)
            elif one.how is How.RELEASE:
                self._heard.appendleft(copy)
            elif one.how is How.DELAY:
                heappush(self._later, (one.due or 0.0, next(self._numbers), copy))
            del self._held[one.delivery.tag]

    def ripen(self) -> float:
        """Let messages that are due be taken; return in how many seconds the next is."""
        now = time.time()
        while self._later and self._later[0][0] <= now:
            self._heard.append(heappop(self._later)[2])
        return self._later[0][0] - now if self._later else float("inf")

    @property
    def has_some(self) -> bool:
        """Whether messages may be taken."""
        return bool(self._heard)

    def stop(self) -> None:
        """Listen no more; what is left is gone."""
        if self._ear is not None:
            self._ear.stop()
            self._ear = None
        left = len(self._heard) + len(self._later) + len(self._held)
        if left:
            log_lines.broadcasts_gone(left)
        self._heard.clear()
        self._later.clear()
        self._held.clear()

    def _bury(self, one: Settlement, copy: Copy) -> None:
        record = dead_letter(copy.raw, copy.queue, one.reason, one.detail, self._worker, copy.starts)
        tag = f"{self._worker}:{one.delivery.tag}"
        self._server.pipeline(
            [
                ("HSET", self._keys.dead, tag, record),
                ("ZADD", self._keys.dead_index, round(time.time() * 1000), tag),
            ]
        )


def delivery_of(copy: Copy, tag: str) -> Delivery:
    """Return the delivery that a copy makes.

    Raises:
        Unreadable: it holds no message.
    """
    delivery = envelope.read(copy.raw, tag, copy.queue)
    delivery.starts, delivery.redelivered = copy.starts, copy.redelivered or delivery.redelivered
    return delivery


class _Ear:
    """The thread that hears what is published."""

    def __init__(
        self, server: Server, queues_of: dict[bytes, list[str]], heard: deque[Copy], wake: Callable[[], None]
    ) -> None:
        self._wire = server.wire()
        self._queues_of = queues_of
        self._heard = heard
        self._wake = wake
        self._stopping = Event()
        self._subscribe()
        self._thread = Thread(target=self._run, name="djqueue-ear", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._wire.close()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._hear(self._wire.read(within=ROUND))
            except OperationalError as error:
                if self._stopping.wait(PAUSE):
                    return
                log_lines.deaf_to_broadcasts(str(error))
                self._again()
            except Exception as error:  # closing a connection under a thread makes it fail in any way
                if self._stopping.is_set():
                    return
                log_lines.thread_failed(f"{type(error).__name__}: {error}")
                self._wire.close()
                self._stopping.wait(PAUSE)
                self._again()

    def _subscribe(self) -> None:
        self._wire.send("PSUBSCRIBE", *self._queues_of)
        for _ in self._queues_of:
            self._wire.read()

    def _again(self) -> None:
        while not self._stopping.is_set():
            try:
                self._subscribe()
                return
            except OperationalError:
                self._stopping.wait(PAUSE)

    def _hear(self, reply: object) -> None:
        if not isinstance(reply, list) or len(reply) != 4:
            return
        _, pattern, _, raw = reply
        for queue in self._queues_of.get(pattern, ()):
            if len(self._heard) == MOST_WAITING:
                log_lines.broadcast_dropped(queue)
            self._heard.append(Copy(queue, raw))
        self._wake()
