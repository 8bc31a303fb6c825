"""A question to workers: a command, and the replies that come in time.

A question has a reply queue of its own, of which nothing is left afterwards. Only where the broker is away
or silent at that moment its binding stays in Redis, until nobody has asked for an hour and kombu 5.7 sweeps;
what our workers still reply expires (`mailbox.send_reply`).
"""

# kombu is typed in part.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Any

from kombu.connection import Connection
from kombu.entity import Queue
from kombu.messaging import Consumer, Producer

from djqueue.core.names import new_id
from djqueue.exceptions import OperationalError
from djqueue.messaging import brokers, mailbox
from djqueue.messaging.connections import connection, errors_of, is_silence, library_errors
from djqueue.messaging.departures import is_inside_transaction
from djqueue.messaging.mailbox import Command

Answer = dict[str, Any]

#: how long each answer of the broker may take: somebody waits, through half a dozen of them; seconds
ANSWERS_WITHIN = 2.0


def opened(given: Connection | None) -> Connection:
    """Return a connection that closes itself at the end of its `with` block, like the given one if any."""
    return connection(answers_within=ANSWERS_WITHIN) if given is None else given.clone()


class Question:
    """A command whose replies are waited for, at most `timeout` seconds and at most `limit` of them."""

    def __init__(self, command: Command, timeout: float, limit: int | None) -> None:
        self._command = command
        self._timeout = timeout
        self._limit = limit

    def ask(self, given: Connection | None, callback: Callable[[Answer], None] | None) -> list[Answer]:
        """Send the command and return the replies that come in time; `callback` gets each as it comes.

        Raises:
            djqueue.exceptions.OperationalError: the broker cannot be reached, or a transaction that is open
                here keeps workers from replying.
        """
        can = brokers.broker().capabilities
        alias = None if given is not None else can.transactional_alias
        if alias is None or not is_inside_transaction(alias):
            return self._ask_here(given, callback)
        if can.has_one_writer:
            raise OperationalError(
                f"Workers cannot be asked while a transaction is open on {brokers.broker()!r}: it may keep"
                " them from writing their replies. Ask outside of it; where ATOMIC_REQUESTS is set, in a view"
                " with transaction.non_atomic_requests."
            )
        return self._ask_elsewhere(callback)

    def _ask_elsewhere(self, callback: Callable[[Answer], None] | None) -> list[Answer]:
        """Ask in another thread: in this one nothing would leave before the transaction commits."""
        replies: SimpleQueue[Answer | None] = SimpleQueue()

        def ask() -> list[Answer]:
            try:
                return self._ask_here(None, replies.put)
            finally:
                replies.put(None)
                brokers.broker().leave_thread()

        with ThreadPoolExecutor(1, "djqueue-question") as thread:
            asking = thread.submit(ask)
            while (reply := replies.get()) is not None:
                if callback is not None:
                    callback(reply)
            return asking.result()

    def _ask_here(self, given: Connection | None, callback: Callable[[Answer], None] | None) -> list[Answer]:
        with opened(given) as made, library_errors(made):
            return self._ask_over(made, callback)

    def _ask_over(self, made: Connection, callback: Callable[[Answer], None] | None) -> list[Answer]:
        command, limit = self._command, self._limit
        command.ticket = new_id()
        replies: list[Answer] = []

        def take(body: Any, message: Any) -> None:
            brokers.clock.adjust(message.headers.get("clock"))
            if message.headers.get("ticket", command.ticket) == command.ticket and isinstance(body, dict):
                replies.append(body)
                if callback is not None:
                    callback(body)

        channel = made.default_channel
        deadline = time.monotonic() + self._timeout
        with _queue_for_replies(made) as queue:
            command.reply_to = {"exchange": queue.exchange.name, "routing_key": queue.routing_key}
            with Consumer(channel, [queue], no_ack=True, accept=["json"], callbacks=[take]):
                mailbox.send_command(Producer(channel, auto_declare=False), command, self._timeout)
                while (limit is None or len(replies) < limit) and (left := deadline - time.monotonic()) > 0:
                    try:
                        made.drain_events(timeout=left)
                    except TimeoutError:
                        break
        return replies


@contextmanager
def _queue_for_replies(made: Connection) -> Iterator[Queue]:
    """Give a queue to read replies from, and leave nothing of it on the broker."""
    queue = mailbox.reply_queue(new_id())
    channel = made.default_channel
    try:
        yield queue
    except BaseException as error:
        if not is_silence(error):  # who does not answer would not answer this either
            with suppress(*errors_of(made)):  # what happened first is the news
                _delete(queue, channel, made)
        raise
    _delete(queue, channel, made)


def _delete(queue: Queue, channel: Any, made: Connection) -> None:
    """Delete the queue, over another connection if the one it was used over is broken."""
    try:
        channel.after_reply_message_received(queue.name)
    except errors_of(made) as error:
        if is_silence(error):
            raise
        with made.clone() as another:
            channel = another.default_channel
            queue.bind(channel).declare()  # kombu removes the bindings only that this connection has made
            channel.after_reply_message_received(queue.name)
