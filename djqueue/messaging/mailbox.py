"""Remote control on the wire: kombu's pidbox, as stock Celery clients and workers speak it.

A client's `Command` goes out on the fan-out exchange `<CONTROL_EXCHANGE>.pidbox`, every node reads it in a
queue of its own, and those it is meant for answer with a `Reply` to the client's queue. `control.py` is the
client's side, `hears` the node's. Nothing here knows what commands do.
"""

# kombu is typed in part.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

from kombu.entity import Exchange, Queue
from kombu.message import Message
from kombu.messaging import Producer

from djqueue.conf import settings
from djqueue.messaging import brokers

#: longer patterns of node names are not tried
LONGEST_PATTERN = 1_000


@dataclass(slots=True)
class Command:
    """What a client asks of nodes. `destination` None and no `pattern`: of all of them.

    `ticket` and `reply_to` (exchange and routing key) are there when the client waits for replies.
    """

    method: str
    arguments: dict[str, Any] = field(default_factory=dict)
    destination: list[str] | None = None
    pattern: str | None = None
    matcher: str | None = None
    ticket: str | None = None
    reply_to: dict[str, str] | None = None

    def is_for(self, node: str) -> bool:
        """Return whether the node called `node` is meant."""
        if self.destination:
            return node in self.destination
        if not self.pattern or not self.matcher:
            return True
        if len(self.pattern) > LONGEST_PATTERN:
            return False
        if self.matcher == "glob":
            return fnmatch(node, self.pattern)
        if self.matcher == "pcre":
            try:
                return re.match(self.pattern, node) is not None
            except re.error:
                return False
        return False

    def as_body(self) -> dict[str, Any]:
        """Return the body of the message."""
        body: dict[str, Any] = {
            "method": self.method,
            "arguments": self.arguments,
            "destination": self.destination,
            "pattern": self.pattern,
            "matcher": self.matcher,
        }
        if self.ticket and self.reply_to:
            body |= {"ticket": self.ticket, "reply_to": self.reply_to}
        return body


@dataclass(slots=True)
class Reply:
    """What one node answers to one client."""

    node: str
    content: Any
    ticket: str | None
    exchange: str
    routing_key: str


def hears(body: Any, message: Message, node: str) -> Command | None:
    """Return the command that a message holds; None if it is for others, came too late, or is none."""
    headers = message.headers if isinstance(message.headers, dict) else {}
    brokers.clock.adjust(headers.get("clock"))
    expires = headers.get("expires")
    if isinstance(expires, int | float) and 0 < expires < time.time():
        return None
    command = _read(body)
    return command if command is not None and command.is_for(node) else None


def answer(command: Command, node: str, content: Any) -> Reply | None:
    """Return the reply to `command`; None when nobody waits for one."""
    to = command.reply_to
    if to is None:
        return None
    return Reply(node, content, command.ticket, to["exchange"], to["routing_key"])


def send_command(producer: Producer, command: Command, timeout: float | None) -> None:
    """Publish the command; nodes that read it more than `timeout` seconds later ignore it."""
    exchange = command_exchange()
    producer.publish(
        command.as_body(),
        exchange=exchange.name,
        declare=[exchange],
        headers={
            "clock": brokers.clock.forward(),
            "expires": time.time() + timeout if timeout else 0,
        },
        serializer=settings.TASK_SERIALIZER,
    )


def send_reply(producer: Producer, reply: Reply) -> None:
    """Publish the reply, in JSON whatever the settings: every client reads it.

    In Redis it expires after `CONTROL_QUEUE_EXPIRES`, should the client be gone and nobody read it.

    Raises:
        kombu.exceptions.EncodeError: the content cannot be written.
    """
    exchange = Exchange(reply.exchange, type="direct", durable=False, delivery_mode="transient")
    with _expiring(producer, f"{reply.routing_key}.{reply.exchange}"):
        producer.publish(
            {reply.node: reply.content},
            exchange=exchange.name,
            routing_key=reply.routing_key,
            declare=[exchange],
            headers={"ticket": reply.ticket, "clock": brokers.clock.forward()},
            serializer="json",
        )


def command_exchange() -> Exchange:
    """Return the exchange that all nodes listen to."""
    name = f"{settings.CONTROL_EXCHANGE}.pidbox"
    return Exchange(name, type="fanout", durable=False, delivery_mode="transient")


def reply_exchange() -> Exchange:
    """Return the exchange of replies."""
    name = f"reply.{settings.CONTROL_EXCHANGE}.pidbox"
    return Exchange(name, type="direct", durable=False, delivery_mode="transient")


def node_queue(node: str) -> Queue:
    """Return the queue in which the node called `node` reads commands."""
    return Queue(
        f"{node}.{settings.CONTROL_EXCHANGE}.pidbox",
        exchange=command_exchange(),
        durable=False,
        exclusive=True,
        auto_delete=True,
        expires=settings.CONTROL_QUEUE_EXPIRES or None,
        message_ttl=settings.CONTROL_QUEUE_TTL or None,
    )


def reply_queue(client: str) -> Queue:
    """Return the queue in which the client known by that id reads replies."""
    exchange = reply_exchange()
    return Queue(
        f"{client}.{exchange.name}",
        exchange=exchange,
        routing_key=client,
        durable=False,
        exclusive=True,
        auto_delete=True,
        expires=settings.CONTROL_QUEUE_EXPIRES or None,
    )


@contextmanager
def _expiring(producer: Producer, queue: str) -> Iterator[None]:
    """Let what is published to the queue inside the block expire, where a queue is a key in Redis.

    kombu does so for queues that the channel has declared with an expiry. It is to forget the queue
    afterwards, or the channel would remember every client that has ever asked. Elsewhere queues expire as
    wholes, and an exclusive one could not be declared here.
    """
    expires = settings.CONTROL_QUEUE_EXPIRES
    if not expires or producer.connection.transport.driver_type != "redis":
        yield
        return
    producer.channel.queue_declare(queue, arguments={"x-expires": int(expires * 1000)})
    yield
    producer.channel.queue_declare(queue)


def _read(body: Any) -> Command | None:
    if not isinstance(body, dict) or not isinstance(body.get("method"), str):
        return None
    arguments, destination = body.get("arguments") or {}, body.get("destination")
    if not isinstance(arguments, dict) or not all(isinstance(name, str) for name in arguments):
        return None
    if isinstance(destination, str):
        destination = [destination]
    if not isinstance(destination, Sequence | None):
        return None
    return Command(
        body["method"],
        arguments,
        [str(node) for node in destination] if destination else None,
        _text(body.get("pattern")),
        _text(body.get("matcher")),
        _text(body.get("ticket")),
        _address(body.get("reply_to")),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _address(value: Any) -> dict[str, str] | None:
    if not isinstance(value, dict):
        return None
    exchange, key = value.get("exchange"), value.get("routing_key")
    if not isinstance(exchange, str) or not isinstance(key, str):
        return None
    return {"exchange": exchange, "routing_key": key}
