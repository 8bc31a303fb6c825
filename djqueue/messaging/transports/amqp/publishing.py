"""Sending: messages go out together, and are accepted when RabbitMQ has confirmed and routed every one.

Confirms are matched by number; what could not be routed comes back and is never lost silently. A sender whose
connection breaks sends again what was not confirmed: such a message may arrive twice, none gets lost.
"""

# py-amqp is not typed.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain

from djqueue.conf import settings
from djqueue.core.messages import Outgoing
from djqueue.core.retrying import PublishPolicy
from djqueue.exceptions import OperationalError, Unroutable
from djqueue.messaging import brokers
from djqueue.messaging.transports.amqp import topology
from djqueue.messaging.transports.amqp.letters import Letter, letter
from djqueue.messaging.transports.amqp.server import Server
from djqueue.messaging.transports.amqp.wire import Refused, Unreachable, Wire, errors_of
from djqueue.messaging.transports.idle import Idle

#: the longest that sending takes, with all its tries, seconds
LONGEST = 9.5
#: the longest that one try waits without a sign of life, and to connect, seconds
ANSWERING, CONNECTING = 4.0, 2.0
#: messages on their way without a confirm, and bytes written in one go
WINDOW, PORTION = 1_000, 256 * 1024
#: so many exchanges and queues are remembered as declared
MOST_KNOWN = 1_000
#: AMQP's number for "there is no such exchange" and the like
NOT_FOUND = 404


class Sender:
    """A connection on which messages are confirmed. For one thread at a time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._wire: Wire | None = None
        self._channel = 0
        self._number = 0  # of the last message published on the channel
        self._pending: dict[int, Letter] = {}
        self._refused: list[Letter] = []
        self._returned: list[Letter] = []
        self._known: set[tuple[str, str | None]] = set()  # exchanges and queues declared on this connection
        self._delays: set[str] = set()  # queues bound to the delays

    def carry_out(self, letters: Sequence[Letter], policy: PublishPolicy) -> None:
        """Send the letters, again after an error that may pass, as often as the policy says.

        Once more than that and at once, because an idle connection may have died unnoticed.

        Raises:
            djqueue.exceptions.OperationalError: RabbitMQ could not be reached, or refused.
            djqueue.exceptions.Unroutable: no queue would get a message; the others were sent.
        """
        now = time.monotonic()
        until, last_try_at = now + LONGEST, now + policy.timeout
        pauses: Iterator[float] = chain([0.0], policy.pauses())
        left = deque(letters)
        while True:
            try:
                self._send(left, until)
                return
            except OperationalError as error:
                self.close()
                if isinstance(error, Refused | Unroutable):
                    raise
                now, pause = time.monotonic(), next(pauses, None)
                if pause is None or now + pause > min(last_try_at, until):
                    raise
            time.sleep(pause)

    def close(self) -> None:
        """Close the connection."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.leave()

    # -- one try -------------------------------------------------------------------------------------

    def _send(self, left: deque[Letter], until: float) -> None:
        """Send what is left, and take off what was confirmed; what comes back is sent once more."""
        wire = self._open(until)
        try:
            with errors_of(wire):
                returned = self._publish(wire, left, until)
                if returned:
                    self._declare_again()  # somebody deleted them since
                    left.extend(returned)
                    returned = self._publish(wire, left, until)
        except Refused as refusal:
            if refusal.code == NOT_FOUND:
                raise Unroutable(f"RabbitMQ has no place for the message: {refusal}") from refusal
            raise
        finally:
            # What is not confirmed goes out again, in its order.
            left.extendleft(reversed(self._pending.values()))
            self._pending.clear()
        if returned:
            raise _unroutable(returned)

    def _publish(self, wire: Wire, left: deque[Letter], until: float) -> list[Letter]:
        """Publish and wait for every confirm; return those that could not be routed."""
        returned: list[Letter] = []
        self._returned = returned
        pending, frame_max = self._pending, wire.frame_max
        while left:
            portion, size = [], 0
            while left and len(pending) < WINDOW and size < PORTION:
                one = left[0]
                self._prepare(wire, one)
                frames = one.frames(self._channel, frame_max)
                portion.append(frames)
                size += len(frames)
                self._number += 1
                pending[self._number] = left.popleft()
            self._await_unblocked(wire, until)
            wire.stream.patience = max(min(ANSWERING, until - time.monotonic()), 0.1)
            wire.stream.write(b"".join(portion))
            wire.take()
            while len(pending) >= WINDOW:
                self._read(wire, until)
        while pending:
            self._read(wire, until)
        if self._refused:
            number, self._refused = len(self._refused), []
            raise Refused(
                f"RabbitMQ did not accept {number} message(s): a queue is full, or one of its nodes failed."
            )
        return returned

    def _read(self, wire: Wire, until: float) -> None:
        self._await_unblocked(wire, until)
        patience = max(min(ANSWERING, until - time.monotonic()), 0.1)
        wire.blocking_read(patience)
        wire.take()

    def _await_unblocked(self, wire: Wire, until: float) -> None:
        """Wait while RabbitMQ takes no messages because it is short of memory or disk."""
        while wire.blocked is not None:
            left = until - time.monotonic()
            if left <= 0:
                raise Unreachable(
                    "RabbitMQ takes no messages at present: an alarm says that it is short of memory or disk "
                    "(rabbitmqctl status shows it)."
                )
            try:
                wire.blocking_read(min(left, 1.0))
            except TimeoutError:
                continue

    def _prepare(self, wire: Wire, one: Letter) -> None:
        """Declare what a letter needs, once on each connection."""
        place = one.place
        what = (place.exchange, place.queue)
        if what not in self._known:
            if len(self._known) >= MOST_KNOWN:  # names that callers make up
                self._declare_again()
            for queue in brokers.queues().to_declare(place):
                topology.declare(wire, queue)
            self._known.add(what)
        if one.is_delayed and place.routing_key not in self._delays:
            if not self._delays:
                topology.declare_delays(wire)
            topology.bind_to_delays(wire, place.routing_key)
            self._delays.add(place.routing_key)

    def _declare_again(self) -> None:
        """Let queues be declared again."""
        self._known.clear()
        self._delays.clear()

    # -- the connection ------------------------------------------------------------------------------

    def _open(self, until: float) -> Wire:
        wire = self._wire
        if wire is not None and wire.is_open and not _has_ended(wire):
            return wire
        self.close()
        left = max(until - time.monotonic(), 0.1)
        wire = self._server.connect(within=min(CONNECTING * self._server.count, left))
        with errors_of(wire):
            wire.on_confirm, wire.on_returned = self._note_confirm, self._note_returned
            channel = wire.channel()
            channel.confirm_select()
            self._channel = channel.channel_id
        self._number = 0
        self._known.clear()
        self._delays.clear()
        self._wire = wire
        return wire

    def _note_confirm(self, number: int, multiple: bool, accepted: bool) -> None:
        pending = self._pending
        numbers = [number]
        if multiple:
            numbers = []
            for known in pending:
                if known > number:
                    break
                numbers.append(known)
        for one in numbers:
            sent = pending.pop(one, None)
            if sent is not None and not accepted:
                self._refused.append(sent)

    def _note_returned(self, code: int, words: str, exchange: str, routing_key: str, body: bytes) -> None:
        """Find the letter that came back: a return comes before the confirm of its message."""
        for number, one in self._pending.items():
            if one.routing_key == routing_key and one.exchange == exchange and one.body == body:
                one.returned = f"{code} {words}"
                self._returned.append(self._pending.pop(number))
                return


class Publisher:
    """Sends for a whole process; safe to use from several threads."""

    def __init__(self, server: Server) -> None:
        self._senders = Idle(lambda: Sender(server), most=settings.BROKER_POOL_LIMIT or 0)

    def send_many(self, outgoing: Sequence[Outgoing], policy: PublishPolicy) -> None:
        """Send the messages; those of one queue stay in order.

        Raises:
            djqueue.exceptions.EncodeError: a header or property cannot be written in AMQP; nothing was sent.
            djqueue.exceptions.OperationalError: RabbitMQ was not reached or refused; some may be sent.
            djqueue.exceptions.Unroutable: no queue would get a message; the others were sent.
        """
        self.send([letter(one) for one in outgoing], policy)

    def send(self, letters: Sequence[Letter], policy: PublishPolicy) -> None:
        """Send letters, as `send_many` does."""
        sender = self._senders.take()
        try:
            sender.carry_out(letters, policy)
        finally:
            self._senders.put(sender)

    def after_fork(self) -> None:
        """Forget the parent's connections."""
        self._senders.forget()

    def close(self) -> None:
        """Close idle connections."""
        self._senders.close()


def _has_ended(wire: Wire) -> bool:
    """Take in what RabbitMQ said meanwhile; return whether that was a farewell."""
    poll = select.poll()
    poll.register(wire.stream.sock, select.POLLIN)
    if not poll.poll(0):
        return False
    try:
        with errors_of(wire):
            wire.take()
    except OperationalError:
        return True
    return not wire.is_open


def _unroutable(returned: Sequence[Letter]) -> Unroutable:
    first = returned[0]
    place = f"exchange {first.place.exchange!r}, routing key {first.place.routing_key!r}"
    return Unroutable(
        f"RabbitMQ returned {len(returned)} message(s), the first sent to {place}: {first.returned}. No "
        "queue is bound there, so nobody would get them. Declare the queue, or correct the route."
    )
