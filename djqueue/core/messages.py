"""What travels between processes: a message as the wire carries it, and where it goes.

A caller's call comes in as headers and an encoded body; a transport takes it away as it is.
Nothing here reads or writes the body: bodies stay bytes until a child process opens them.
`pack` and `unpack` turn the nouns into plain tuples for the pipe between worker and children.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class WireMessage:
    """One task message (protocol 2): headers, AMQP properties and the encoded body.

    `properties` holds what AMQP calls basic properties except content type and encoding, which have
    fields of their own: correlation_id, reply_to, delivery_mode, priority, …
    """

    headers: dict[str, Any]
    properties: dict[str, Any]
    body: bytes
    content_type: str = "application/json"
    content_encoding: str = "utf-8"

    def pack(self) -> tuple[Any, ...]:
        """Return the message as a tuple of builtins."""
        return (self.headers, self.properties, self.body, self.content_type, self.content_encoding)

    @classmethod
    def unpack(cls, packed: tuple[Any, ...]) -> WireMessage:
        """Return the message that `pack` made a tuple of."""
        return cls(*packed)


@dataclass(slots=True, frozen=True)
class Destination:
    """Where a message is published: exchange and routing key, and the queue when one is named."""

    exchange: str
    routing_key: str
    queue: str | None = None


@dataclass(slots=True)
class Outgoing:
    """A message ready to be published.

    `due` is the moment it may run, in seconds since the epoch (None: at once); a transport that can
    keep messages until then does so.
    """

    message: WireMessage
    destination: Destination
    due: float | None = None

    def pack(self) -> tuple[Any, ...]:
        """Return the whole as a tuple of builtins."""
        place = self.destination
        return (self.message.pack(), (place.exchange, place.routing_key, place.queue), self.due)

    @classmethod
    def unpack(cls, packed: tuple[Any, ...]) -> Outgoing:
        """Return what `pack` made a tuple of."""
        message, place, due = packed
        return cls(WireMessage.unpack(message), Destination(*place), due)
