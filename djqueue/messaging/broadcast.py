"""One command to many workers: it goes out to all, and the replies that come in time are collected.

A question has a reply queue of its own, of which nothing is left afterwards. Only where the broker is away
or silent at that moment its binding stays in Redis, until nobody has asked for an hour and kombu 5.7 sweeps;
what our workers still reply expires (`mailbox.send_reply`). `steering.py`, `control.py` and `inspection.py`
use this and say what the commands are.
"""

# kombu is typed in part.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from kombu.connection import Connection
from kombu.entity import Queue
from kombu.messaging import Consumer, Producer

from djqueue.core.names import new_id
from djqueue.exceptions import ImproperlyConfigured
from djqueue.messaging import brokers, mailbox
from djqueue.messaging.connections import connection, errors_of, is_silence, library_errors
from djqueue.messaging.mailbox import Command

Answer = dict[str, Any]
Nodes = str | Sequence[str] | None

#: how long replies are waited for, seconds
PATIENCE = 1.0
#: how long each answer of the broker may take: somebody waits, through half a dozen of them; seconds
ANSWERS_WITHIN = 2.0


class Broadcaster:
    """Sends commands. Holds nothing; each call uses a connection of its own.

    `destination` names nodes, one or several; with `pattern` and `matcher` ("glob" or "pcre") those whose
    name fits are meant; otherwise all are. Without `reply=True` nothing is waited for and None comes back.
    """

    def broadcast(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        destination: Nodes = None,
        connection: Connection | None = None,
        reply: bool = False,
        timeout: float = PATIENCE,
        limit: int | None = None,
        callback: Callable[[Answer], None] | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
        **extra: Any,
    ) -> list[Answer] | None:
        """Send a command; with `reply`, return what came back as a list of `{node: reply}`.

        Further keywords become arguments of the command. `callback` gets each reply as it comes.

        Raises:
            djqueue.exceptions.OperationalError: the broker cannot be reached.
            djqueue.exceptions.ImproperlyConfigured: the broker has no way to reach all workers.
        """
        if connection is None and not reaches_all():
            raise ImproperlyConfigured(
                f"{brokers.broker()!r} cannot reach all workers, so there is no remote control over it; "
                "docs/explanation/choosing-a-broker.md tells which brokers can."
            )
        nodes = [destination] if isinstance(destination, str) else destination
        wanted = Command(
            command,
            {**(arguments or {}), **extra},
            None if nodes is None else list(nodes),
            pattern,
            matcher,
        )
        if limit is None and nodes:
            limit = len(nodes)
        with _opened(connection) as made, library_errors(made):
            if not reply:
                mailbox.send_command(Producer(made.default_channel, auto_declare=False), wanted, None)
                return None
            return _ask(made, wanted, timeout, limit, callback)


def reaches_all() -> bool:
    """Return whether what is sent over the broker can reach every worker."""
    return "fanout" in brokers.broker().capabilities.exchanges


def _opened(given: Connection | None) -> Connection:
    # A connection is a context manager that closes itself; one that was given is cloned, not closed.
    return connection(answers_within=ANSWERS_WITHIN) if given is None else given.clone()


def _ask(
    made: Connection,
    command: Command,
    timeout: float,
    limit: int | None,
    callback: Callable[[Answer], None] | None,
) -> list[Answer]:
    """Send the command and return the replies that come within `timeout` seconds, at most `limit`."""
    command.ticket = new_id()
    replies: list[Answer] = []

    def take(body: Any, message: Any) -> None:
        brokers.clock.adjust(message.headers.get("clock"))
        if message.headers.get("ticket", command.ticket) == command.ticket and isinstance(body, dict):
            replies.append(body)
            if callback is not None:
                callback(body)

    channel = made.default_channel
    deadline = time.monotonic() + timeout
    with _queue_for_replies(made) as queue:
        command.reply_to = {"exchange": queue.exchange.name, "routing_key": queue.routing_key}
        with Consumer(channel, [queue], no_ack=True, accept=["json"], callbacks=[take]):
            mailbox.send_command(Producer(channel, auto_declare=False), command, timeout)
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
