"""Messages as rows and rows as messages.

`Outgoing` comes in and the parameters of an INSERT leave; a claimed row comes in and a `Delivery` leaves, or
`Unreadable` when the row does not hold a message. The body is not looked at.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from djqueue.core.messages import Outgoing, WireMessage
from djqueue.core.serialization import LARGEST
from djqueue.exceptions import EncodeError
from djqueue.messaging.delivery import Delivery
from djqueue.models import LONGEST_NAME

#: The columns that a sender fills, in the order of `to_row`.
SENT = (
    *("queue", "exchange", "routing_key", "task", "task_id", "priority", "starts", "body", "headers"),
    *("properties", "content_type", "content_encoding", "due", "redelivered", "claimed_by", "created"),
)
#: The columns of which a delivery is made, in the order `to_delivery` expects.
CLAIMED = (
    *("id", "priority", "queue", "exchange", "routing_key", "starts", "redelivered", "body", "headers"),
    *("properties", "content_type", "content_encoding"),
)
#: What messages and dead letters have in common.
CONTENT = (
    *("queue", "exchange", "routing_key", "task", "task_id", "priority", "starts", "body", "headers"),
    *("properties", "content_type", "content_encoding"),
)

LEAST_PRIORITY, MOST_PRIORITY = 0, 255

_encode = json.JSONEncoder(separators=(",", ":"), default=DjangoJSONEncoder().default).encode
_decode = json.JSONDecoder().decode


class Unreadable(Exception):
    """The row does not hold a message."""


def to_row(outgoing: Outgoing, queue: str, created: Any) -> tuple[Any, ...]:
    """Return the values of `SENT` for a message that goes to `queue`.

    Raises:
        EncodeError: a header or property cannot be written as JSON.
    """
    message, place = outgoing.message, outgoing.destination
    headers, properties = message.headers, message.properties
    return (
        queue,
        place.exchange,
        place.routing_key,
        name(headers.get("task")),
        name(headers.get("id") or properties.get("correlation_id")),
        priority(properties.get("priority")),
        0,
        message.body,
        encode(headers, "header"),
        encode(properties, "property"),
        message.content_type,
        message.content_encoding,
        later(outgoing.due),
        False,
        "",
        created,
    )


def to_message(body: Any, headers: str, properties: str, content_type: str, encoding: str) -> WireMessage:
    """Return the message that these columns hold.

    Raises:
        Unreadable: they do not hold one.
    """
    if len(body) > LARGEST:
        raise Unreadable(f"the body has {len(body)} bytes; at most {LARGEST} are read")
    return WireMessage(
        decode(headers, "headers"), decode(properties, "properties"), bytes(body), content_type, encoding
    )


def to_delivery(row: Sequence[Any], tag: str, holder: str = "") -> Delivery:
    """Return the delivery that a claimed row (columns `CLAIMED`) makes for its holder.

    Raises:
        Unreadable: the row does not hold a message.
    """
    _, _, queue, exchange, routing_key, starts, redelivered, *content = row
    delivery = Delivery(
        tag,
        queue,
        to_message(*content),
        starts=starts,
        redelivered=bool(redelivered),
        exchange=exchange,
        routing_key=routing_key,
    )
    delivery.holder = holder
    return delivery


def encode(value: dict[str, Any], what: str) -> str:
    """Return headers or properties as JSON.

    Raises:
        EncodeError: one of them cannot be written so.
    """
    try:
        return _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise EncodeError(f"A {what} of the message cannot be written as JSON: {error}") from error


def decode(text: str, what: str) -> dict[str, Any]:
    """Return the headers or properties that JSON text holds.

    Raises:
        Unreadable: it is not JSON, or no object.
    """
    try:
        value = _decode(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise Unreadable(f"the {what} are not JSON: {error}") from error
    if not isinstance(value, dict):
        raise Unreadable(f"the {what} must be an object; they are {text[:80]}")
    return value


def priority(value: Any) -> int:
    """Return the priority to schedule by: 0, which comes first, unless `value` is a number in bounds."""
    if not isinstance(value, int | float) or value != value:
        return LEAST_PRIORITY
    return int(min(max(value, LEAST_PRIORITY), MOST_PRIORITY))


def later(due: float | None) -> float | None:
    """Return when the message may run if that is still to come: what is due now waits for nothing."""
    return due if due is not None and due > time.time() else None


def name(value: Any) -> str:
    """Return the copy of a name or id that goes into a column: text, not longer than the column."""
    return value[:LONGEST_NAME] if isinstance(value, str) else ""
