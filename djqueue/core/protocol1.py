"""Celery's message protocol 1, for very old workers and for clients in other languages.

All that protocol 2 has in headers is in the body here. `upgrade` turns such a message, in all the forms that
clients write, into one of protocol 2 before anything else looks at it; `encode` writes one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from djqueue.conf import settings
from djqueue.core import moments
from djqueue.core.bodies import checked
from djqueue.core.calls import Call
from djqueue.core.messages import WireMessage
from djqueue.core.reprs import safe_repr, shown
from djqueue.core.sealing import Draft, open_body, properties, seal, writing
from djqueue.core.serialization import dumps, serializer_of
from djqueue.exceptions import DjqueueError, InvalidTaskError


def draft(call: Call) -> Draft:
    """Return the headers, properties and body of the call's message, not yet bytes."""
    body = {
        "task": call.plan.name,
        "id": call.id,
        "args": call.args or (),
        "kwargs": call.kwargs or {},
        "group": call.group,
        "group_index": call.group_index,
        "retries": call.retries,
        "eta": call.eta,
        "expires": call.expires,
        "utc": settings.ENABLE_UTC,
        "callbacks": _with_chain(call.callbacks, call.chain),
        "errbacks": call.errbacks,
        "timelimit": call.timelimit or (call.plan.time_limit, call.plan.soft_time_limit),
        "taskset": call.group,
        "chord": call.chord,
    }
    return Draft(dict(call.headers or {}), properties(call), body, *writing(call))


def encode(call: Call) -> WireMessage:
    """Return the message that asks for this call, in protocol 1.

    Raises:
        EncodeError: the arguments cannot be written with the call's serializer.
    """
    return seal(draft(call))


def upgrade(message: WireMessage, accept: Iterable[str] | None = None) -> WireMessage:
    """Return the protocol 2 form of a protocol 1 message; `accept` is ACCEPT_CONTENT when not given.

    Raises:
        ContentDisallowed: the body's content type is not accepted.
        DecodeError: the body cannot be read.
        InvalidTaskError: the body is not a task.
    """
    if message.headers is not None and not isinstance(message.headers, dict):
        raise InvalidTaskError(
            f"The headers of a message must be an object; they are {shown(message.headers)}."
        )
    content = open_body(message, accept)
    if not isinstance(content, dict) or "task" not in content:
        raise InvalidTaskError(
            "The message is not a task: it has no header 'task', and its body is no object with a task; "
            f"it is {shown(content)}."
        )
    args, kwargs, embed = checked(content.get("args", []), content.get("kwargs", {}), content)
    is_utc = content.get("utc") is not False
    headers = {
        "lang": content.get("lang"),
        "task": content["task"],
        "id": content.get("id"),
        "shadow": content.get("shadow"),
        "eta": content.get("eta") if is_utc else _in_local_time(content.get("eta")),
        "expires": content.get("expires") if is_utc else _in_local_time(content.get("expires")),
        "group": content.get("taskset") or content.get("group"),
        "group_index": content.get("group_index"),
        "retries": content.get("retries"),
        "timelimit": content.get("timelimit"),
        "root_id": content.get("root_id"),
        "parent_id": content.get("parent_id"),
        "argsrepr": safe_repr(tuple(args)),
        "kwargsrepr": safe_repr(kwargs),
        "origin": content.get("origin"),
        "ignore_result": content.get("ignore_result"),
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }
    headers.update({key: value for key, value in (message.headers or {}).items() if key not in headers})
    headers.pop("compression", None)  # undone above
    try:
        written = dumps([args, kwargs, embed], serializer_of(message.content_type) or "json")
    except DjqueueError as exc:
        raise InvalidTaskError(f"The arguments of a protocol 1 message cannot be passed on: {exc}") from exc
    content_type, encoding, body = written
    properties = message.properties if isinstance(message.properties, dict) else {}
    return WireMessage(headers, properties, body, content_type, encoding)


def _with_chain(callbacks: Sequence[Any] | None, chain: Sequence[Any] | None) -> list[Any] | None:
    """Return the callbacks with the rest of a chain nested into them: protocol 1 has no chains."""
    following: Any = None
    for signature in chain or ():  # the last one of a chain is the next
        signature = dict(signature)
        if following is not None:
            options = dict(signature.get("options") or {})
            options["link"] = [*(options.get("link") or ()), following]
            signature["options"] = options
        following = signature
    if following is None:
        return None if callbacks is None else list(callbacks)
    return [*(callbacks or ()), following]


def _in_local_time(moment: Any) -> Any:
    """Return a moment without an offset as one of TIMEZONE; what cannot be read is refused later."""
    if not isinstance(moment, str):
        return moment
    try:
        return moments.parse(moment, settings.timezone()).isoformat()
    except (ValueError, OverflowError):
        return moment
