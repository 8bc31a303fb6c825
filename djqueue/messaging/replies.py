"""Replies by kombu: results as messages to the queue that a caller named in `reply_to`.

`open_replies` returns the transport's own way if it has one. kombu's works with every broker it knows, on the
broker's connection settings; connections are made when they are needed, and made anew when they break.
"""

# kombu is typed in part.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.message import Message
from kombu.messaging import Consumer, Producer

from djqueue.conf import settings
from djqueue.core.names import reply_address
from djqueue.exceptions import OperationalError
from djqueue.messaging import brokers
from djqueue.messaging.connections import connection, library_errors
from djqueue.messaging.contract import Replies, Reply

#: A broker that is asked has nothing more for us if it says nothing for so long, seconds.
SILENCE = 0.05
#: a sender that has written to so many queues begins anew, so that it does not remember every client
MOST_ADDRESSES = 1_000
#: of names in AMQP, bytes
LONGEST_NAME = 255


def open_replies(on_reply: Callable[[str, bytes], None]) -> Replies:
    """Return how results travel over the broker of BROKER_URL."""
    return brokers.broker().replies(on_reply) or KombuReplies(on_reply)


def delivery_mode() -> int:
    """Return the AMQP delivery mode of replies."""
    return 2 if settings.RESULT_PERSISTENT else 1


class KombuReplies(Replies):
    """Replies over any broker that kombu knows."""

    def __init__(self, on_reply: Callable[[str, bytes], None]) -> None:
        super().__init__(on_reply)
        self._sending = threading.Lock()
        self._sender = Sender()
        self._inbox = Inbox(on_reply)

    def send(self, replies: Sequence[Reply]) -> None:
        with self._sending:
            self._sender.send(replies)

    def declare(self) -> None:
        with connection() as made, library_errors(made):
            queue(reply_address())(made.default_channel).declare()

    def collect(self) -> None:
        self._inbox.collect()

    def wait(self, seconds: float) -> None:
        self._inbox.wait(seconds)

    def close(self) -> None:
        with self._sending:
            self._sender.close()
        with suppress(OperationalError):  # what was in the queue went with it
            self._inbox.take_leave()


class Sender:
    """A connection that publishes replies."""

    def __init__(self) -> None:
        self._producer: Producer | None = None
        self._connection: Connection | None = None
        self._known: set[str] = set()

    def send(self, replies: Sequence[Reply]) -> None:
        """Publish the replies; once more if the connection has died of old age."""
        if len(self._known) > MOST_ADDRESSES:
            self.close()
        was_open = self._connection is not None
        try:
            self._send(replies)
        except OperationalError:
            self.close()
            if not was_open:
                raise
            self._send(replies)

    def close(self) -> None:
        """Close the connection."""
        _release(self._connection)
        self._connection = self._producer = None
        self._known.clear()

    def _send(self, replies: Sequence[Reply]) -> None:
        if self._connection is None:
            self._connection = _connected()
        made = self._connection
        with library_errors(made):
            if self._producer is None:
                self._producer = Producer(made.default_channel, auto_declare=False)
            for reply in replies:
                if not _fits(reply.address):
                    continue  # a forged one: no queue is called like this
                self._see_to_expiry(made, reply.address)
                self._producer.publish(
                    reply.body,
                    exchange="",
                    routing_key=reply.address,
                    # A longer one is found in the body.
                    correlation_id=reply.correlation_id if _fits(reply.correlation_id) else None,
                    content_type=reply.content_type,
                    content_encoding=reply.content_encoding,
                    delivery_mode=delivery_mode(),
                )

    def _see_to_expiry(self, made: Connection, address: str) -> None:
        """Let a queue that nobody reads any more vanish where the broker does not see to that by itself.

        kombu's own transports keep the expiry of queues in the process that declared them.
        """
        if address not in self._known:
            self._known.add(address)
            if not _pushes(made):
                queue(address, auto_delete=False)(made.default_channel).queue_declare()


class Inbox:
    """A connection that consumes this process's queue."""

    def __init__(self, on_reply: Callable[[str, bytes], None]) -> None:
        self._on_reply = on_reply
        self._connection: Connection | None = None

    def collect(self) -> None:
        """Take all that has come by now."""
        with self._consuming() as made:
            if _pushes(made):
                # The queue counts what it has not handed to our channel. What it had, the channel may send
                # after this answer, but does send before the next.
                times_empty = 0
                while times_empty < 2:
                    times_empty = 0 if self._count(made) else times_empty + 1
            else:
                with suppress(TimeoutError):
                    while True:
                        made.drain_events(timeout=SILENCE)

    def wait(self, seconds: float) -> None:
        """Take what comes within so many seconds."""
        with self._consuming() as made, suppress(TimeoutError):
            made.drain_events(timeout=seconds)

    def take_leave(self) -> None:
        """Take what has come, and go; the broker deletes the queue then."""
        if self._connection is not None:
            self.collect()
            self._close()

    @contextmanager
    def _consuming(self) -> Iterator[Connection]:
        """Return the connection, consuming. After an error it is closed: nobody knows what is under way."""
        made = self._connection or _connected()
        try:
            with library_errors(made):
                if self._connection is None:
                    self._connection = made
                    mine = queue(reply_address())
                    Consumer(made.default_channel, [mine], on_message=self._take, no_ack=True).consume()
                yield made
        except BaseException:
            self._close()
            raise

    def _count(self, made: Connection) -> int:
        count: int = made.default_channel.queue_declare(queue=reply_address(), passive=True).message_count
        return count

    def _close(self) -> None:
        _release(self._connection)
        self._connection = None

    def _take(self, message: Message) -> None:
        body = message.body
        known_as = message.properties.get("correlation_id")
        self._on_reply(str(known_as or ""), body.encode() if isinstance(body, str) else bytes(body))


def queue(address: str, *, auto_delete: bool = True) -> Queue:
    """Return the queue of that name as Celery declares it, or brokers would refuse one of the two."""
    return Queue(
        address,
        Exchange(""),
        routing_key=address,
        durable=True,
        auto_delete=auto_delete,
        expires=settings.RESULT_EXPIRES or None,
    )


def _connected() -> Connection:
    # Where brokers confirm what they have taken, that is waited for; elsewhere the option is ignored.
    made = connection(confirm_publish=True)
    with library_errors(made):
        made.ensure_connection(max_retries=1)
    return made


def _release(made: Connection | None) -> None:
    if made is not None:
        with suppress(OperationalError), library_errors(made):
            made.release()


def _fits(name: str) -> bool:
    """Return whether brokers can carry the name."""
    try:
        return len(name.encode()) <= LONGEST_NAME
    except UnicodeEncodeError:  # half a character
        return False


def _pushes(made: Connection) -> Any:
    """Return whether the broker sends messages by itself, which is what AMQP is about."""
    return made.transport.driver_type == "amqp"
