"""Queues and broker in kombu's words, for those who ask a worker what it is connected to.

Names of queues come in; the dictionaries that Celery's `inspect active_queues` and `inspect stats` show
leave. Passwords never do.
"""

# kombu is typed in part.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import Any

from djqueue.messaging import brokers
from djqueue.messaging.connections import connection
from djqueue.messaging.urls import masked


def described_queue(name: str) -> dict[str, Any]:
    """Return the queue as kombu describes it."""
    described: dict[str, Any] = brokers.queues().get(name).as_dict(recurse=True)
    return described


def described_broker() -> dict[str, Any]:
    """Return where the broker is and how it is reached."""
    made = connection()
    described: dict[str, Any] = dict(made.info())
    described.pop("password", None)
    described["hostname"] = masked(str(described.get("hostname") or ""))
    described["transport_options"] = {
        name: value for name, value in described["transport_options"].items() if _is_plain(value)
    }
    described["credential_provider"] = None
    return described


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | None)
