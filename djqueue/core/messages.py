"""What travels between processes: a message as the wire carries it, and where it goes.

A caller's call comes in as headers and an encoded body; a transport takes it away as it is.
Nothing here reads or writes the body: bodies stay bytes until a child process opens them.
`pack` and `unpack` turn the nouns into plain tuples for the pipe between worker and children.
"""

from __future__ import annotations

from dataclasses import dataclass, field
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
    #: what `protocol.read_headers` made of the headers, which do not change any more
    reading: dict[str, Any] | None = field(default=None, repr=False, compare=False)

    def pack(self) -> tuple[Any, ...]:
        """Return the message as a tuple of builtins."""
        return (self.headers, self.properties, self.body, self.content_type, self.content_encoding)

    def pack_to_run(self) -> tuple[Any, ...]:
        """Return the message as a tuple of builtins for who runs it: headers are read once, by who judges it.

        Of the headers themselves only what opening the body needs goes along with what was read.
        """
        if self.reading is None:
            return self.pack()
        compression = self.headers.get("compression")
        headers = {"compression": compression} if compression else {}
        return (
            headers,
            self.properties,
            self.body,
            self.content_type,
            self.content_encoding,
            self.reading,
        )

    @classmethod
    def unpack(cls, packed: tuple[Any, ...]) -> WireMessage:
        """Return the message that `pack` or `pack_to_run` made a tuple of."""
        return cls(*packed)


@dataclass(slots=True, frozen=True)
class Destination:
    """Where a message is published: to an exchange under a routing key.

    The empty exchange leads straight to the queue that the key names. With another exchange `queue` names the
    queue that the sender declares first, if any; which queues get the message their bindings say.
    """

    exchange: str
    routing_key: str
    queue: str | None = None


@dataclass(slots=True, frozen=True)
class Address:
    """What routing knows of a queue: its name, its exchange with that one's type, and the key it is bound by.

    `is_private`: each consumer has a queue of its own, so that senders declare none. `delivery_mode` is the
    exchange's, None when it has none.
    """

    queue: str
    exchange: str
    exchange_type: str
    routing_key: str
    is_private: bool = False
    delivery_mode: int | None = None
    #: where a message for the queue is published that says no more
    usual: Destination = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "usual", self.destination())

    def destination(self, exchange: str | None = None, routing_key: str | None = None) -> Destination:
        """Return where a message for the queue is published; what is given replaces what is declared.

        Unless both are given, a direct exchange is left out: then the message goes straight to the queue.
        """
        if self.exchange_type == "direct" and not (exchange and routing_key):
            return Destination("", self.queue, self.queue)
        if not routing_key and exchange in (None, self.exchange):
            routing_key = self.routing_key
        return Destination(
            exchange or self.exchange, routing_key or "", None if self.is_private else self.queue
        )


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
