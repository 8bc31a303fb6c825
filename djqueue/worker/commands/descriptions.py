"""Tasks as `inspect` shows them: the dictionary that Celery makes of a request.

Entries of the ledger and messages that wait in the broker come in. Arguments are read from the body, which
the worker never opens otherwise; large ones and those in other formats than JSON are shown as text.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import Any

from djqueue.core.messages import WireMessage
from djqueue.core.protocol import due_at, read_body
from djqueue.core.requests import Request
from djqueue.exceptions import DjqueueError
from djqueue.messaging.startboard import Started
from djqueue.worker.commands.state import WorkerState
from djqueue.worker.ledger import Entry

#: larger bodies are not opened for being shown, bytes
LARGEST_SHOWN = 8_192
#: the priority that `scheduled` shows, which means nothing (Celery's timer has one)
TIMER_PRIORITY = 6


def described(
    state: WorkerState, entry: Entry, started: Started | None = None, *, safe: bool = False
) -> dict[str, Any]:
    """Return what is known of a task that this worker holds."""
    since = None if started is None else time.time() - (time.monotonic() - started.since)
    pid = None if started is None else state.pool.pid(entry.number)
    return _request(
        state, entry.request, entry.delivery.message, safe=safe, since=since, pid=pid, acked=entry.acked
    )


def waiting(
    state: WorkerState, due: float, request: Request, message: WireMessage, *, acked: bool = False
) -> dict[str, Any]:
    """Return what is known of a task that may run from `due` on, seconds since the epoch."""
    return {
        "eta": datetime.fromtimestamp(due, UTC).isoformat(),
        "priority": TIMER_PRIORITY,
        "request": _request(state, request, message, acked=acked),
    }


def due_of(entry: Entry, until: float) -> float:
    """Return when an entry of the waiting room may start, seconds since the epoch."""
    return max(time.time() + until - time.monotonic(), due_at(entry.request) or 0.0)


def _request(
    state: WorkerState,
    request: Request,
    message: WireMessage,
    *,
    safe: bool = False,
    since: float | None = None,
    pid: int | None = None,
    acked: bool = False,
) -> dict[str, Any]:
    args, kwargs = _arguments(request, message, safe)
    place = request.delivery_info or {}
    return {
        "id": request.id,
        "name": request.task,
        "args": args,
        "kwargs": kwargs,
        "type": request.task,
        "hostname": state.hostname,
        "time_start": since,
        "acknowledged": acked,
        "delivery_info": {
            name: place.get(name) for name in ("exchange", "routing_key", "priority", "redelivered")
        },
        "worker_pid": pid if pid is not None else (os.getpid() if since is not None else None),
    }


def _arguments(request: Request, message: WireMessage, safe: bool) -> tuple[Any, Any]:
    is_readable = message.content_type == "application/json" and len(message.body) <= LARGEST_SHOWN
    if not safe and is_readable:
        try:
            args, kwargs, _ = read_body(message)
            return list(args), dict(kwargs)
        except DjqueueError:  # the task will fail; the headers say what its arguments look like
            return request.argsrepr, request.kwargsrepr
    return request.argsrepr, request.kwargsrepr
