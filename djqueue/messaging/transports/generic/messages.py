"""Messages in kombu's form and in ours.

`Outgoing` messages become what a channel publishes; what a channel delivers becomes a `Delivery`. Counts of
starts travel in a header, for kombu's transports have no place of their own for them.
"""

# kombu is typed in part.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import Any

from kombu.exceptions import EncodeError as KombuEncodeError
from kombu.message import Message
from kombu.utils.json import dumps, loads

from djqueue.core.messages import WireMessage
from djqueue.core.names import new_id
from djqueue.core.serialization import LARGEST
from djqueue.exceptions import EncodeError
from djqueue.messaging.delivery import Delivery

#: crashes while the message was being run, without an end since
STARTS = "x-djq-starts"
#: what kombu keeps among the properties for itself
_TRANSIENT = frozenset({"delivery_info", "delivery_tag", "body_encoding"})


class Unreadable(Exception):
    """What was delivered is no message. `reason` is the dead letter's."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def prepared(channel: Any, message: WireMessage) -> Any:
    """Return the message in the form that the channel publishes; it shares nothing with ours.

    Raises:
        djqueue.exceptions.EncodeError: a header or property cannot be written as JSON.
    """
    properties = {name: value for name, value in message.properties.items() if value is not None}
    try:  # before anything happens: some transports leave half a message behind
        dumps([message.headers, properties])
    except (TypeError, ValueError, RecursionError, KombuEncodeError) as error:
        raise EncodeError(f"A header or property of the message cannot be written: {error}") from error
    return channel.prepare_message(
        message.body,
        priority=properties.get("priority"),
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        headers=dict(message.headers),
        properties=properties,
    )


def payload_of(text: bytes | str) -> Any:
    """Return what the JSON text of a message holds; the text itself if it is no JSON."""
    try:
        return loads(text)
    except Exception:  # also what looks like a date and is none
        return text if isinstance(text, str) else text.decode("utf-8", "backslashreplace")


def forgiving(kind: type[Any]) -> type[Any]:
    """Return kombu's class of messages as one that also takes what is no message, and notes the `problem`.

    kombu raises, by which the connection is lost, and with most transports what was fetched as well.
    """

    class Forgiving(kind):  # type: ignore[misc]
        problem = ""

        def __init__(self, payload: Any, channel: Any = None, **more: Any) -> None:
            try:
                super().__init__(payload, channel=channel, **more)
            except Exception as error:  # there is no end to what a payload may be
                properties = payload.get("properties") if isinstance(payload, dict) else None
                properties = properties if isinstance(properties, dict) else {}
                tag, place = properties.get("delivery_tag"), properties.get("delivery_info")
                Message.__init__(
                    self,
                    body=dumps(payload),
                    channel=channel,
                    delivery_tag=tag if isinstance(tag, str) else new_id(),
                    properties=properties,
                    delivery_info=place if isinstance(place, dict) else {},
                )
                self.problem = f"it is no message: {type(error).__name__}: {error}"

    return Forgiving


def delivery_of(message: Message, tag: str, queue: str) -> Delivery:
    """Return the delivery that a message makes.

    Raises:
        Unreadable: it is none, it is too large, or headers or properties are no dictionaries.
    """
    if problem := getattr(message, "problem", ""):
        raise Unreadable("undecodable", problem)
    headers, properties = message.headers or {}, message.properties or {}
    if not isinstance(headers, dict) or not isinstance(properties, dict):
        raise Unreadable("invalid_envelope", "headers and properties must be objects")
    body = body_of(message)
    if len(body) > LARGEST:
        raise Unreadable("oversized", f"the body has {len(body)} bytes; at most {LARGEST} are read")
    place = message.delivery_info or {}
    starts = headers.get(STARTS)
    return Delivery(
        tag,
        queue,
        WireMessage(
            headers,
            {name: value for name, value in properties.items() if name not in _TRANSIENT},
            body,
            _text(message.content_type) or "application/json",
            _text(message.content_encoding) or "utf-8",
        ),
        starts=starts if type(starts) is int and 0 < starts < 2**31 else 0,
        redelivered=bool(headers.get("redelivered") or place.get("redelivered")),
        exchange=_text(place.get("exchange")),
        routing_key=_text(place.get("routing_key")),
    )


def again(message: WireMessage, starts: int) -> WireMessage:
    """Return the message as it goes back to its queue."""
    headers = {**message.headers, "redelivered": True}
    if starts:
        headers[STARTS] = starts
    return WireMessage(
        headers, message.properties, message.body, message.content_type, message.content_encoding
    )


def unread(message: Message, tag: str, queue: str) -> Delivery:
    """Return the delivery of something that is no message: its body, under its id if that can be found."""
    properties = message.properties if isinstance(message.properties, dict) else {}
    task_id = _text(properties.get("correlation_id"))
    headers = {"id": task_id} if task_id else {}
    return Delivery(
        tag, queue, WireMessage(headers, {}, body_of(message), "application/octet-stream", "binary")
    )


def body_of(message: Message) -> bytes:
    """Return the body as it travelled."""
    body = message.body
    return body.encode("utf-8", "surrogatepass") if isinstance(body, str) else bytes(body or b"")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
