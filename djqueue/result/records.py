"""The documents of a run: its states, its end, and the ends it brings about for others.

Execution and abandonment come in with a request and an encoded value; a `Document` leaves that carries what
RESULT_EXTENDED allows to be kept. Who does not run the task has no request, and sets its state in the store.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from djqueue import states
from djqueue.conf import settings
from djqueue.core.requests import Request
from djqueue.core.serialization import dumps_json
from djqueue.core.wire_exceptions import exception_to_wire
from djqueue.result.contract import ResultBackend
from djqueue.result.documents import Document, Encoded, encode_value

#: The header that beat puts on what it sends.
PERIODIC = "periodic_task_name"


def record(
    request: Request,
    state: str,
    encoded: Encoded,
    *,
    traceback: str | None = None,
    started: float | None = None,
    worker: str | None = None,
) -> Document:
    """Return the document that says the run of `request` is in `state`."""
    children = request.children
    document = Document(
        request.id,
        state,
        encoded.result,
        encoded.content_type,
        encoded.content_encoding,
        traceback=traceback,
        children=[child.as_tuple() for child in children] if children else [],
        date_done=time.time() if state in states.READY_STATES else None,
        date_started=started,
        attempt=request.attempt,
        retries=request.retries,
        group_id=request.group,
        root_id=request.root_id,
        parent_id=request.parent_id,
        reply_to=request.reply_to,
        correlation_id=request.correlation_id,
    )
    if settings.RESULT_EXTENDED:
        document.name = request.task
        document.args = request.argsrepr
        document.kwargs = request.kwargsrepr
        document.worker = worker or request.hostname
        document.queue = (request.delivery_info or {}).get("queue")
        document.stamps = stamps_of(request)
        headers = request.headers
        if headers:
            document.periodic_task_name = headers.get(PERIODIC)
    return document


def stamps_of(request: Request) -> str | None:
    """Return the stamps of the call as documents hold them."""
    names, stamps = request.stamped_headers, request.stamps or {}
    return dumps_json({name: stamps.get(name) for name in names}).decode() if names else None


def encode_state(state: str, meta: Any) -> Encoded:
    """Return the meta of a state that a task sets; for states of failure, an exception or its wire form.

    Raises:
        djqueue.exceptions.EncodeError: the serializer cannot write it.
    """
    if isinstance(meta, BaseException):
        meta = exception_to_wire(meta)
    elif state in states.EXCEPTION_STATES and not (isinstance(meta, dict) and "exc_type" in meta):
        raise TypeError(f"The meta of the state {state} must be an exception, not {meta!r}.")
    return encode_value(meta)


def set_from_outside(
    store: ResultBackend, task_id: str, state: str, meta: Any, traceback: str | None = None
) -> None:
    """Keep a state that somebody sets who does not run the task. It counts for the attempt that is known.

    What is known of the task otherwise stays. Raises as `encode_state` and the store do.
    """
    encoded = encode_state(state, meta)
    known = store.fetch(task_id) or Document(task_id, state)
    done = time.time() if state in states.READY_STATES else None
    store.store_many([replace(known, status=state, **encoded._asdict(), traceback=traceback, date_done=done)])
