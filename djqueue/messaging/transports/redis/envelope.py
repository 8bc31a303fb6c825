"""kombu's envelope: a message as one JSON object, the body inside it as base64 or plain text.

Messages come in and bytes for a list leave; bytes from a list come in and a `Delivery` leaves, or
`Unreadable` when they hold no message. What other languages' clients leave out is filled in; the whole
envelope stays in Redis as it came, so that nothing in it is ever lost.
"""

from __future__ import annotations

import json
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from json.encoder import encode_basestring_ascii
from typing import Any

from djqueue.core.messages import Destination, WireMessage
from djqueue.core.names import new_id
from djqueue.core.serialization import LARGEST, dumps_json, loads_json
from djqueue.exceptions import DecodeError
from djqueue.messaging.delivery import Delivery

#: crashes while the message was being run, without an end since; ours, others ignore it
STARTS = "x-delivery-count"
#: how often its holder vanished without anyone knowing whether the message had been started
UNSEEN = "x-djq-unseen"
#: so many times unseen count as one start, lest a message that kills whole machines lives for ever
UNSEEN_PER_START = 5

_quoted = encode_basestring_ascii
_UNREADABLE, _OVERSIZED, _INVALID = "undecodable", "oversized", "invalid_envelope"


class Unreadable(Exception):
    """The bytes hold no message. `reason` is the dead letter's."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def write(message: WireMessage, place: Destination) -> bytes:
    """Return the envelope of a message that goes to `place`.

    Raises:
        djqueue.exceptions.EncodeError: a header or property cannot be written as JSON.
    """
    # Put together by hand, because this is done for every message that is sent.
    properties = message.properties
    pairs = [
        f"{_quoted(str(name))}: {_json(value)}" for name, value in properties.items() if name != "priority"
    ]
    exchange, routing_key = _quoted(place.exchange), _quoted(place.routing_key)
    pairs += (
        f'"delivery_info": {{"exchange": {exchange}, "routing_key": {routing_key}}}',
        f'"priority": {_json(properties.get("priority", 0))}, "body_encoding": "base64"',
        f'"delivery_tag": "{new_id()}"',
    )
    return (
        b'{"body": "%b", "content-encoding": %b, "content-type": %b, "headers": %b, "properties": {%b}}'
        % (
            b2a_base64(message.body, newline=False),
            _quoted(message.content_encoding).encode(),
            _quoted(message.content_type).encode(),
            dumps_json(message.headers),
            ", ".join(pairs).encode(),
        )
    )


def read(raw: bytes, tag: str, queue: str) -> Delivery:
    """Return the delivery that the bytes of a list element make.

    Raises:
        Unreadable: they hold no message.
    """
    if len(raw) > LARGEST:
        raise Unreadable(_OVERSIZED, f"the message has {len(raw)} bytes; at most {LARGEST} are read")
    try:
        envelope = loads_json(raw)
    except DecodeError as error:
        raise Unreadable(_UNREADABLE, str(error)) from None
    if type(envelope) is not dict:
        raise Unreadable(_INVALID, f"the message must be an object; it is {_shown(envelope)}")
    get = envelope.get
    headers, properties = get("headers") or {}, get("properties") or {}
    if type(headers) is not dict or type(properties) is not dict:
        raise Unreadable(
            _INVALID, f"headers and properties must be objects; they are {_shown([headers, properties])}"
        )
    message = WireMessage(
        headers,
        properties,
        _body(get("body"), properties),
        _text(get("content-type"), "content-type") or "application/json",
        _text(get("content-encoding"), "content-encoding") or "utf-8",
    )
    # These are the transport's, and stay with the message in Redis.
    info = properties.pop("delivery_info", None)
    properties.pop("body_encoding", None)
    properties.pop("delivery_tag", None)
    if type(info) is not dict:
        info = {}
    exchange, routing_key = info.get("exchange"), info.get("routing_key")
    return Delivery(
        tag,
        queue,
        message,
        starts=_count(headers.get(STARTS)),
        redelivered=bool(headers.get("redelivered") or info.get("redelivered")),
        exchange=exchange if type(exchange) is str else "",
        routing_key=routing_key if type(routing_key) is str else queue,
    )


def unread(raw: bytes, tag: str, queue: str) -> Delivery:
    """Return the delivery of bytes that hold no message: they are its body, under what headers there are."""
    try:
        envelope = loads_json(raw) if len(raw) <= LARGEST else None
    except DecodeError:
        envelope = None
    parts = [envelope.get(name) if type(envelope) is dict else None for name in ("headers", "properties")]
    headers, properties = (part if type(part) is dict else {} for part in parts)
    return Delivery(tag, queue, WireMessage(headers, properties, raw, "application/octet-stream", "binary"))


def redelivered(raw: bytes, *, started: bool = False, unseen: bool = False) -> bytes:
    """Return the envelope as it goes back to its queue: marked as redelivered, and with one start more.

    `unseen`: nobody knows whether it had been started.
    """
    envelope = json.loads(raw)
    headers = envelope.get("headers")
    if not headers:
        headers = envelope["headers"] = {}
    if unseen:
        count = _count(headers.get(UNSEEN)) + 1
        headers[UNSEEN] = count
        started = count % UNSEEN_PER_START == 0
    if started:
        headers[STARTS] = _count(headers.get(STARTS)) + 1
    headers["redelivered"] = True
    properties = envelope.get("properties")
    if properties and type(properties.get("delivery_info")) is dict:
        properties["delivery_info"]["redelivered"] = True
    return json.dumps(envelope).encode()


def record_ending(queue: str) -> str:
    """Return how the records of a queue's messages end: `[` and the message stand before it.

    kombu reads a record as message, exchange and routing key: the empty exchange leads straight to the queue.
    """
    return f', "", {json.dumps(queue)}]'


def from_record(record: bytes) -> tuple[bytes, str]:
    """Return the message of a record of unacked messages, and its queue."""
    before, _, after = record.rpartition(b', "", ')
    return before[1:], str(json.loads(after[:-1]))


def _body(body: Any, properties: dict[str, Any]) -> bytes:
    if type(body) is not str:
        raise Unreadable(_INVALID, f"the body must be text; it is {_shown(body)}")
    if properties.get("body_encoding") != "base64":
        try:
            return body.encode()
        except UnicodeEncodeError:
            raise Unreadable(_UNREADABLE, "the body holds half a character (a lone surrogate)") from None
    try:
        return a2b_base64(body)
    except (Base64Error, ValueError) as error:
        raise Unreadable(_UNREADABLE, f"the body is not base64: {error}") from None


def _json(value: Any) -> str:
    """Return a property as JSON: most are text or small numbers."""
    kind = type(value)
    if kind is str:
        return _quoted(value)
    return str(value) if kind is int else dumps_json(value).decode()


def _text(value: Any, name: str) -> str | None:
    if value is not None and type(value) is not str:
        raise Unreadable(_INVALID, f"{name} must be text; it is {_shown(value)}")
    return value


def _count(value: Any) -> int:
    return value if type(value) is int and 0 < value < 2**31 else 0


def _shown(value: Any) -> str:
    return repr(value)[:80]
