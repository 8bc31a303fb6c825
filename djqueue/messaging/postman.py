"""The thread that sends what a worker has to say beside its work: events, and replies to remote control.

The loop posts and goes on; a broker that hangs holds up this thread and nothing else. The box is bounded:
what does not fit, or comes while the broker is away, is dropped and counted, and told once it is over.
"""

# kombu is typed in part.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import threading
from contextlib import suppress
from queue import Empty, Full, Queue

from kombu.connection import Connection
from kombu.exceptions import EncodeError
from kombu.messaging import Producer

from djqueue.exceptions import OperationalError
from djqueue.messaging import brokers, log_lines, mailbox
from djqueue.messaging.connections import connection, library_errors
from djqueue.messaging.events import Event, Stage
from djqueue.messaging.mailbox import Reply

Letter = Event | list[Event] | Reply

#: most letters in the box; a list of events is one
BOX_SIZE = 1_000
#: after a failure nothing is sent for so long, seconds
PAUSE = 1.0
#: a worker that stops waits at most so long for the last letters, seconds
LAST_MOMENTS = 2.0


class Postman:
    """Sends letters in the name of one node. `post` may be called from any thread."""

    def __init__(self, hostname: str) -> None:
        self._hostname = hostname
        self._box: Queue[Letter | None] = Queue(BOX_SIZE)
        self._thread = threading.Thread(target=self._live, name="djqueue-postman", daemon=True)
        self._stopping = threading.Event()
        #: letters that were not sent
        self.dropped = 0
        self._told_of = 0
        self._is_failing = False  # the broker is away, and that was told

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def post(self, letter: Letter) -> None:
        """Take a letter to be sent; a full box refuses it without a word."""
        try:
            self._box.put_nowait(letter)
        except Full:
            self.dropped += 1

    def stop(self) -> None:
        """Send what is in the box, within reason, and end."""
        self._stopping.set()
        try:
            self._box.put_nowait(None)
        except Full:
            return  # the broker has not taken anything for a long time
        if self._thread.is_alive():
            self._thread.join(LAST_MOMENTS)

    # -- in the thread -------------------------------------------------------------------------------

    def _live(self) -> None:
        try:
            while self._send_until_it_fails():
                self._stopping.wait(PAUSE)
        finally:
            brokers.broker().leave_thread()

    def _send_until_it_fails(self) -> bool:
        """Send letters; return whether to go on after a failure, False when it is time to end."""
        first = self._box.get()
        if first is None:
            return False
        try:
            made = connection()
            with made, library_errors(made):
                round_ = Round(made, self._hostname)
                letter: Letter | None = first
                while letter is not None:
                    round_.deliver(letter)
                    self._tell_of_losses()
                    letter = self._box.get()
                return False
        except OperationalError as error:
            self._lose(str(error))
            return not self._stopping.is_set()

    def _lose(self, error: str) -> None:
        """Drop the letter that failed and all that came with it: they are news only while they are new."""
        if not self._is_failing:
            self._is_failing = True
            log_lines.letters_not_sent(error)
        self.dropped += 1
        with suppress(Empty):
            while True:
                self.dropped += self._box.get_nowait() is not None

    def _tell_of_losses(self) -> None:
        if self.dropped > self._told_of:
            log_lines.letters_lost(self.dropped - self._told_of)
            self._told_of, self._is_failing = self.dropped, False


class Round:
    """Delivers letters over one connection."""

    def __init__(self, over: Connection, hostname: str) -> None:
        self._stage = Stage(over, hostname)
        self._producer = Producer(over.default_channel, auto_declare=False)

    def deliver(self, letter: Letter) -> None:
        """Send one letter. A reply that cannot be written says so to its client."""
        if not isinstance(letter, Reply):
            self._stage.send(letter)
            return
        try:
            mailbox.send_reply(self._producer, letter)
        except EncodeError as error:
            letter.content = {"error": f"The reply cannot be written as JSON: {error!r}"}
            mailbox.send_reply(self._producer, letter)
