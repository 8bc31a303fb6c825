"""Hand-made messages, as minimal clients and broken ones put them into a Redis list.

`envelope` makes one from headers and body, and every part of it can be replaced or left out; `push` puts
bytes into a queue as any client does. Nothing of djqueue or Celery is used: that is the point.
"""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import redis

ADD = "tests.project.tasks.add"
#: leaves a part out
LEFT_OUT: Any = object()


def base64_of(body: bytes | str) -> str:
    """Return the body as kombu writes it."""
    return base64.b64encode(body if isinstance(body, bytes) else body.encode()).decode()


def envelope(
    headers: Any,
    body: Any,
    *,
    properties: dict[str, Any] | None = None,
    encoded: Any = None,
    **parts: Any,
) -> bytes:
    """Return a list element with these headers and this body.

    `properties` change or add single properties; `encoded` is the text of the body in place of the body;
    other arguments replace whole parts, `_` standing for `-`.
    """
    task_id = headers.get("id") if isinstance(headers, dict) else None
    sent = {
        "correlation_id": task_id,
        "reply_to": str(uuid.uuid4()),
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": "ours"},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": str(uuid.uuid4()),
        **(properties or {}),
    }
    whole = {
        "body": base64_of(json.dumps(body)) if encoded is None else encoded,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": without_left_out(sent),
        **{name.replace("_", "-"): part for name, part in parts.items()},
    }
    return json.dumps(without_left_out(whole)).encode()


def task(
    task_id: str,
    *,
    body: Any = ([2, 2], {}, {}),
    headers: dict[str, Any] | None = None,
    **changes: Any,
) -> bytes:
    """Return a message of protocol 2 with the least headers there can be, and changes to it."""
    least = {"lang": "py", "task": ADD, "id": task_id, **(headers or {})}
    return envelope(without_left_out(least), body, **changes)


def push(server: redis.Redis, queue: str, *elements: bytes) -> None:
    """Put elements into the queue as clients do."""
    server.lpush(queue, *elements)


def without_left_out(whole: dict[str, Any]) -> dict[str, Any]:
    """Return the parts that are not left out."""
    return {name: part for name, part in whole.items() if part is not LEFT_OUT}
