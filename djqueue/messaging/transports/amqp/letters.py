"""A message on its way out, as RabbitMQ is to get it: exchange, routing key, properties and body as bytes.

`Outgoing` comes in; a `Letter` leaves for the sender. What is due later goes to the exchange that delays.
"""

from __future__ import annotations

import time
from typing import Any

from djqueue.core.messages import Destination, Outgoing, WireMessage
from djqueue.messaging.transports.amqp import codec, topology

#: how often running a message was begun without an end; RabbitMQ counts deliveries, which is something else
STARTS = "x-djq-starts"
#: when a message without an `eta` header is due, seconds since the epoch
DUE = "x-djq-due"
#: what is due sooner is sent at once, seconds
SOON = 1.0
#: RabbitMQ's notes on dead lettering; with them it takes a message that is delayed twice for one in a loop
_NOT_KEPT = (
    *("x-death", "x-first-death-exchange", "x-first-death-queue", "x-first-death-reason"),
    *("x-last-death-exchange", "x-last-death-queue", "x-last-death-reason", "x-delivery-count", "CC", "BCC"),
)


class Letter:
    """One message. `place` is where it goes in the end; what is delayed takes another way there."""

    __slots__ = ("body", "exchange", "place", "properties", "returned", "routing_key")

    def __init__(self, place: Destination, properties: bytes, body: bytes, seconds: int = 0) -> None:
        self.place = place
        self.exchange, self.routing_key = place.exchange, place.routing_key
        if seconds:
            self.exchange, self.routing_key = (
                topology.DELAYING,
                topology.delayed_key(place.routing_key, seconds),
            )
        self.properties = properties
        self.body = body
        #: why RabbitMQ returned it
        self.returned = ""

    @property
    def is_delayed(self) -> bool:
        """Whether it waits in RabbitMQ until it is due."""
        return self.exchange == topology.DELAYING

    def frames(self, channel: int, frame_max: int) -> bytes:
        """Return the frames that publish it."""
        return codec.publish(
            channel, self.exchange, self.routing_key, self.properties, self.body, frame_max=frame_max
        )


def letter(outgoing: Outgoing) -> Letter:
    """Return the letter of a message that is sent.

    What goes to an exchange is sent at once, whenever it is due: the workers that get it put it off.

    Raises:
        djqueue.exceptions.EncodeError: a header or property cannot be written in AMQP.
    """
    place, message = outgoing.destination, outgoing.message
    if not place.exchange and outgoing.due is not None:
        return to_queue(message, place.routing_key, due=outgoing.due)
    return Letter(place, _properties(message, {}), message.body)


def to_queue(message: WireMessage, queue: str, *, starts: int = 0, due: float | None = None) -> Letter:
    """Return the letter that puts a message straight into a queue, now or when it is due."""
    extra: dict[str, Any] = {STARTS: starts} if starts else {}
    wait = 0.0 if due is None else due - time.time()
    place = Destination("", queue, queue)
    if wait <= SOON or len(queue.encode()) > topology.LONGEST_DELAYED:
        return Letter(place, _properties(message, extra), message.body)
    if not message.headers.get("eta"):
        extra[DUE] = due
    # It comes up to a second early, and is held by a worker until the moment.
    return Letter(place, _properties(message, extra), message.body, int(wait))


def _properties(message: WireMessage, extra: dict[str, Any]) -> bytes:
    headers = message.headers
    if extra or not headers.keys().isdisjoint(_NOT_KEPT) or DUE in headers or STARTS in headers:
        headers = {
            name: value for name, value in headers.items() if name not in _NOT_KEPT and name != DUE
        } | extra
    return codec.write_properties(message.properties, headers, message.content_type, message.content_encoding)
