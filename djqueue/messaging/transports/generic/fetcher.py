"""The thread that consumes: kombu's transports wait for messages in ways that a worker's loop must not.

The source says how many messages it wants and takes those that have come; the thread owns the connection
while it runs. When the broker is away it connects again and again; what had been handed out over the broken
connection then belongs to the broker again, or is gone with it.
"""

# kombu is typed in part.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from kombu.message import Message
from kombu.messaging import Consumer
from kombu.transport.virtual import Channel as VirtualChannel

from djqueue.messaging import brokers, log_lines
from djqueue.messaging.transports.generic.link import Line, Link
from djqueue.messaging.transports.generic.messages import forgiving

#: the thread looks around at least so often, seconds
ROUND = 0.5
#: pauses before the broker is tried again: the first and the longest, seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
#: whoever ends the thread waits at most so long, seconds
LAST_MOMENTS = 3.0


class Fetched(NamedTuple):
    """A message, its queue, and the connection it came over, counted from 1."""

    message: Message
    queue: str
    epoch: int


class Fetcher:
    """Consumes for one source. `take` and `want` are called by the worker's loop."""

    def __init__(self, link: Link, queues: Sequence[str], wake: Callable[[], None]) -> None:
        self._link = link
        self._queues = tuple(queues)
        self._wake = wake
        self._arrived: deque[Fetched] = deque()
        self._wanted = 0
        self._hurry = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._live, name="djqueue-fetcher", daemon=True)
        self._made: Line | None = None
        self._consumers: dict[str, Consumer] = {}
        #: the connection that messages come over now, counted from 1
        self.epoch = 0
        #: what is wrong with it
        self.error: Exception | None = None
        self._held = 0

    def start(self) -> None:
        """Connect, and begin.

        Raises:
            djqueue.exceptions.OperationalError: the broker cannot be reached.
        """
        with self._link.errors():
            self._connect()
            self._follow()  # whoever sends from now on finds the queues bound
        self._thread.start()

    def want(self, room: int, held: int) -> None:
        """Fetch up to so many messages from now on; `held` are in hand."""
        self._wanted, self._held = room, held
        self._hurry.set()

    def take(self, room: int | None = None) -> list[Fetched]:
        """Return up to `room` messages (None: all) that have come over the connection that is open now."""
        taken: list[Fetched] = []
        while self._arrived and (room is None or len(taken) < room):
            one = self._arrived.popleft()
            if one.epoch == self.epoch:
                taken.append(one)
        return taken

    def consume(self, queues: Sequence[str]) -> None:
        """Consume these queues from the next look on."""
        self._queues = tuple(queues)
        self._hurry.set()

    def stop(self) -> None:
        """End the thread, or leave it behind if its broker hangs; the connection stays open."""
        self._stopping.set()
        self._hurry.set()
        if self._thread.is_alive():
            self._thread.join(LAST_MOMENTS)

    def close(self) -> None:
        """Close the connection; kombu gives back what was not answered.

        Queues that are to go with their consumer go: kombu's transports do not see to that.
        """
        made, self._made = self._made, None
        consumers, self._consumers = self._consumers, {}
        if made is None:
            return
        if self._stopping.is_set() and self.error is None:
            for name in consumers:
                if brokers.queues().get(name).auto_delete:
                    with suppress(Exception):
                        self._channel.queue_delete(name)
        with suppress(Exception):  # whatever a driver says to being closed
            made.close()

    # -- in the thread -------------------------------------------------------------------------------

    def _live(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            try:
                if self.error is not None:
                    self._connect()
                    log_lines.fetching_again()
                    self.error = None
                    self._wake()
                pause = FIRST_PAUSE
                self._consume()
            except Exception as error:  # every driver has errors of its own
                if self._stopping.is_set():
                    return
                if self.error is None:
                    log_lines.not_fetching(f"{type(error).__name__}: {error}")
                self.error = error
                self._wake()  # the loop learns that what it holds is no longer its own
                self._stopping.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    def _connect(self) -> None:
        self.epoch += 1
        self.close()
        self._made = made = self._link.connection()
        made.ensure_connection(max_retries=1)
        every = self._link.traits.look_every
        if every is not None and "polling_interval" not in (made.transport_options or ()):
            made.transport.polling_interval = every
        self._channel = channel = made.channel()
        if isinstance(channel, VirtualChannel):
            channel.Message = forgiving(channel.Message)

    def _consume(self) -> None:
        """Deliver until something goes wrong or the thread is to end."""
        made = self._made
        assert made is not None
        while not self._stopping.is_set():
            self._follow()
            if self._wanted <= 0 or not self._consumers:
                self._hurry.wait(ROUND)
                self._hurry.clear()
                continue
            self._channel.basic_qos(0, self._held + len(self._arrived) + self._wanted, False)
            with suppress(TimeoutError):
                made.drain_events(timeout=ROUND)

    def _follow(self) -> None:
        """Begin and end consumers so that there is one for each queue."""
        queues, consumers = self._queues, self._consumers
        for name in set(consumers).difference(queues):
            consumers.pop(name).cancel()
        for name in queues:
            if name not in consumers:
                queue = brokers.queues().get(name)
                consumers[name] = Consumer(self._channel, [queue], on_message=partial(self._take, name))
                consumers[name].consume()

    def _take(self, queue: str, message: Message) -> None:
        self._arrived.append(Fetched(message, queue, self.epoch))
        self._wanted -= 1
        self._wake()
