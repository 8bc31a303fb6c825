"""Messages that wait for their time, for people who ask what is going to happen.

Names of queues come in; due time, queue and message leave, soonest first. Nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Sequence

from djqueue.core.messages import WireMessage
from djqueue.messaging.tables.rows import Unreadable, to_message
from djqueue.models import Message

_COLUMNS = ("due", "queue", "body", "headers", "properties", "content_type", "content_encoding")


def not_due(alias: str, queues: Sequence[str], most: int) -> list[tuple[float, str, WireMessage]]:
    """Return up to `most` messages of the queues that are not due yet; unreadable ones are left out."""
    found: list[tuple[float, str, WireMessage]] = []
    waiting = Message.objects.using(alias).filter(claimed_by="", queue__in=list(queues), due__isnull=False)
    for due, queue, *content in waiting.order_by("due").values_list(*_COLUMNS)[:most]:
        try:
            found.append((float(due or 0.0), queue, to_message(*content)))
        except Unreadable:
            continue
    return found
