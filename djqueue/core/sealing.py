"""The last step out and the first step in, for both protocols: drafts become bytes, bodies are opened.

A protocol makes a `Draft` of a call; `seal` encodes and compresses it into a `WireMessage`. For readers of
bodies `open_body` undoes that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from djqueue.conf import settings
from djqueue.core.calls import Call
from djqueue.core.messages import WireMessage
from djqueue.core.names import reply_address
from djqueue.core.serialization import JSON_TYPE, compress, decompress, dumps, dumps_json, loads

_DELIVERY_MODES: dict[Any, int] = {"persistent": 2, "transient": 1}


class Draft(NamedTuple):
    """A message before it is bytes; receivers of `before_task_publish` may change what is inside."""

    headers: dict[str, Any]
    properties: dict[str, Any]
    body: Any
    serializer: str
    compression: str | None


def properties(call: Call) -> dict[str, Any]:
    """Return the AMQP properties of the call's message."""
    plan = call.plan
    priority = plan.priority if call.priority is None else call.priority
    if priority is None:
        priority = settings.TASK_DEFAULT_PRIORITY or 0
    mode = call.delivery_mode or plan.delivery_mode or settings.TASK_DEFAULT_DELIVERY_MODE
    found = {
        "correlation_id": call.id,
        "reply_to": call.reply_to or reply_address(),
        "delivery_mode": _DELIVERY_MODES.get(mode, mode),
        "priority": priority,
    }
    if call.properties:
        found.update(call.properties)
    return found


def seal(parts: Draft) -> WireMessage:
    """Turn a draft into the message.

    Raises:
        EncodeError: the body cannot be written with the serializer.
    """
    headers, properties, body, serializer, compression = parts
    if serializer == "json":
        content_type, encoding, data = JSON_TYPE, "utf-8", dumps_json(body)
    else:
        content_type, encoding, data = dumps(body, serializer)
    if compression:
        data, headers["compression"] = compress(data, compression)
    return WireMessage(headers, properties, data, content_type, encoding)


def writing(call: Call) -> tuple[str, str | None]:
    """Return the serializer and the compression of the call's body."""
    plan = call.plan
    return (
        call.serializer or plan.serializer or settings.TASK_SERIALIZER,
        call.compression or plan.compression or settings.TASK_COMPRESSION,
    )


def open_body(message: WireMessage, accept: Iterable[str] | None = None) -> Any:
    """Return what the body holds, decompressed and decoded. Raises as `read_body` does."""
    body = message.body
    compression = message.headers.get("compression") if message.headers else None
    if compression:
        body = decompress(body, str(compression))
    accepted = settings.ACCEPT_CONTENT if accept is None else accept
    return loads(body, message.content_type, message.content_encoding, accepted)
