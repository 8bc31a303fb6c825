"""The thread that hears remote control: it reads the node's mailbox and hands commands to the worker's loop.

It never obeys by itself. A broker that is away is tried again until it is back; what was broadcast meanwhile
is lost, which is why revocations are kept elsewhere as well.
"""

# kombu is typed in part.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from kombu.message import Message
from kombu.messaging import Consumer

from djqueue.conf import settings
from djqueue.exceptions import OperationalError
from djqueue.messaging import brokers, log_lines, mailbox
from djqueue.messaging.connections import connection, library_errors
from djqueue.messaging.mailbox import Command

#: the thread looks around at least so often, seconds
ROUND = 0.5
#: pauses before the broker is tried again: the first and the longest, seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
#: most commands that wait for the loop
MOST_WAITING = 1_000
#: a worker that stops waits at most so long for this thread, seconds
LAST_MOMENTS = 2.0
#: a worker that starts waits at most so long until it can be spoken to, seconds
FIRST_MOMENTS = 2.0


class Listener:
    """Listens in the name of one node. `on_command` is called in this thread whenever one has come."""

    def __init__(self, node: str, on_command: Callable[[], None]) -> None:
        self._node = node
        self._on_command = on_command
        self._heard: deque[Command] = deque()
        self._thread = threading.Thread(target=self._live, name="djqueue-listener", daemon=True)
        self._stopping = threading.Event()
        self._has_tried = threading.Event()  # it listens, or has told that it cannot
        self._is_deaf = False  # the broker is away, and that was told
        self._is_flooded = False  # so many commands wait that new ones are dropped, and that was told

    def start(self) -> None:
        """Begin to listen: what is sent to the node from now on is heard, unless its broker is away."""
        self._thread.start()
        self._has_tried.wait(FIRST_MOMENTS)

    def heard(self, most: int) -> list[Command]:
        """Hand over up to `most` commands, oldest first (called by the loop)."""
        commands: list[Command] = []
        while self._heard and len(commands) < most:
            commands.append(self._heard.popleft())
        return commands

    def stop(self) -> None:
        """End the thread, or leave it behind if its broker hangs."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(LAST_MOMENTS)

    # -- in the thread -------------------------------------------------------------------------------

    def _live(self) -> None:
        pause = FIRST_PAUSE
        try:
            while not self._stopping.is_set():
                try:
                    self._listen()
                    pause = FIRST_PAUSE
                except OperationalError as error:
                    if not self._is_deaf:
                        self._is_deaf = True
                        log_lines.deaf(str(error))
                    self._has_tried.set()
                    self._stopping.wait(pause)
                    pause = min(pause * 2, LONGEST_PAUSE)
        finally:
            brokers.broker_to_read().leave_thread()

    def _listen(self) -> None:
        made = connection(brokers.broker_to_read().url)
        made.heartbeat = settings.BROKER_HEARTBEAT or 0  # where there are none, nothing is done below
        with made, library_errors(made):
            consumer = Consumer(
                made.default_channel,
                [mailbox.node_queue(self._node)],
                no_ack=True,
                accept=list(settings.ACCEPT_CONTENT),
                callbacks=[self._take],
                on_decode_error=self._refuse,
            )
            with consumer:
                if self._is_deaf:
                    self._is_deaf = False
                    log_lines.hears_again()
                self._has_tried.set()
                while not self._stopping.is_set():
                    made.heartbeat_check()
                    try:
                        made.drain_events(timeout=ROUND)
                    except TimeoutError:
                        continue

    def _take(self, body: Any, message: Message) -> None:
        command = mailbox.hears(body, message, self._node)
        if command is None:
            return
        is_flooded, self._is_flooded = self._is_flooded, len(self._heard) >= MOST_WAITING
        if self._is_flooded:
            if not is_flooded:
                log_lines.flooded(command.method)
            return
        self._heard.append(command)
        self._on_command()

    def _refuse(self, message: Message, error: Exception) -> None:
        log_lines.unreadable_command(repr(error))
