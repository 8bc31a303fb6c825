"""Celery's message protocol 2 as pure functions: a `Call` becomes a `WireMessage`, and a message a `Request`.

Encoding writes the bytes a stock Celery writes, save that the AMQP property `expiration` is never set (the
header `expires` is enough, and brokers drop without a trace). Headers and body are read apart: whoever
decides about a message needs only its headers. Protocol 1 is in `protocol1.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from djqueue.conf import settings
from djqueue.core import moments, protocol1
from djqueue.core.bodies import read_body
from djqueue.core.calls import LONGEST_NAME, Call
from djqueue.core.messages import WireMessage
from djqueue.core.names import origin
from djqueue.core.protocol1 import encode as encode_v1
from djqueue.core.protocol1 import upgrade as upgrade_v1
from djqueue.core.reprs import safe_repr, shown
from djqueue.core.requests import Request, attempt_number
from djqueue.core.sealing import Draft, properties, seal, writing
from djqueue.exceptions import InvalidTaskError

__all__ = [
    "Draft",
    "draft",
    "due_at",
    "encode",
    "encode_v1",
    "expires_at",
    "read_body",
    "read_headers",
    "seal",
    "time_limits",
    "upgrade_v1",
]

#: What most messages say about limits.
_NO_LIMITS = [None, None]
#: Retries beyond this are no number of retries.
_MOST_RETRIES = 2**31 - 1


def encode(call: Call) -> WireMessage:
    """Return the message that asks for this call: protocol 2, or 1 where the call or TASK_PROTOCOL says so.

    Raises:
        EncodeError: the arguments cannot be written with the call's serializer.
    """
    return seal(draft(call))


def draft(call: Call) -> Draft:
    """Return the headers, properties and body of the call's message, not yet bytes.

    Receivers of `before_task_publish` may change what is inside before it is sealed.
    """
    if (call.task_protocol or settings.TASK_PROTOCOL) == 1:
        return protocol1.draft(call)
    plan = call.plan
    levels = settings.TASK_REPR_MAXLEVELS
    args, kwargs = call.args or (), call.kwargs or {}
    hard, soft = call.timelimit or (plan.time_limit, plan.soft_time_limit)
    headers = {
        "lang": "py",
        "task": plan.name,
        "id": call.id,
        "shadow": call.shadow,
        "eta": call.eta,
        "expires": call.expires,
        "group": call.group,
        "group_index": call.group_index,
        "retries": call.retries,
        "timelimit": [hard, soft],
        "root_id": call.root_id or call.id,
        "parent_id": call.parent_id,
        "argsrepr": safe_repr(args, plan.repr_limit, levels) if call.argsrepr is None else call.argsrepr,
        "kwargsrepr": safe_repr(kwargs, plan.repr_limit, levels)
        if call.kwargsrepr is None
        else call.kwargsrepr,
        "origin": origin(),
        "ignore_result": plan.ignore_result if call.ignore_result is None else call.ignore_result,
        "replaced_task_nesting": call.replaced_task_nesting,
        "stamped_headers": call.stamped_headers,
        "stamps": dict(call.stamps) if call.stamps else {},
    }
    if call.headers:
        headers.update(call.headers)
    embed = {
        "callbacks": call.callbacks,
        "errbacks": call.errbacks,
        "chain": call.chain,
        "chord": call.chord,
    }
    return Draft(headers, properties(call), (args, kwargs, embed), *writing(call))


def read_headers(
    message: WireMessage, delivery_info: Mapping[str, Any] | None = None, starts: int = 0
) -> Request:
    """Return the request that a message's headers describe; the body is not touched.

    Every header but `task` and `id` may be missing, and unknown ones are kept in `request.headers`. The
    message remembers what was read.

    Raises:
        InvalidTaskError: the headers do not describe a task.
    """
    reading = message.reading
    if reading is None:
        reading = message.reading = _read(message.headers)
    sent = message.properties if isinstance(message.properties, dict) else {}
    return Request.of(
        {
            **reading,
            "headers": {**reading["headers"]},
            "starts": starts,
            "attempt": attempt_number(reading["retries"], starts),
            "properties": sent,
            "reply_to": _said(sent.get("reply_to")),
            "correlation_id": _said(sent.get("correlation_id")),
            "delivery_info": delivery_info,
            "called_directly": False,
        }
    )


def _read(headers: Any) -> dict[str, Any]:
    """Return what the headers say of the request, by the names of its attributes."""
    if not isinstance(headers, dict):
        raise InvalidTaskError(f"The headers of a message must be an object; they are {shown(headers)}.")
    reading: dict[str, Any] = {"id": None, "task": None, "root_id": None, "retries": 0, "timelimit": None}
    unknown: dict[str, Any] = {}
    reader_of = _READERS.get
    for name, value in headers.items():
        reader = reader_of(name)
        if reader is None:
            unknown[name] = value
        elif value is not None:
            reading[name] = reader(value, name)
    if not reading["id"] or not reading["task"]:
        _name(None, "task" if reading["id"] else "id")
    reading["root_id"] = reading["root_id"] or reading["id"]
    limits = reading["timelimit"]
    if limits is None:
        reading["timelimit"] = [None, None]
    else:
        reading["time_limit"], reading["soft_time_limit"] = limits
    if reading.get("stamped_headers") or reading.get("stamps"):
        _check_stamps(reading.get("stamped_headers"), reading.get("stamps"))
    reading["headers"] = unknown
    return reading


def readable_id(message: WireMessage) -> str | None:
    """Return the id of a task whose message cannot be read otherwise, or None if it has none to go by.

    Where the headers have no id, as in protocol 1, every client has it as the correlation id, too.
    """
    for part, name in ((message.headers, "id"), (message.properties, "correlation_id")):
        with suppress(InvalidTaskError):
            if isinstance(part, dict):
                return _name(part.get(name), name)
    return None


def due_at(request: Request) -> float | None:
    """Return when the task may run, in seconds since the epoch; None: at once."""
    return moments.epoch(request.eta) if request.eta else None


def expires_at(request: Request) -> float | None:
    """Return from when on the task may no longer be started, in seconds since the epoch; None: never."""
    return moments.epoch(request.expires) if request.expires else None


def time_limits(request: Request) -> tuple[float | None, float | None]:
    """Return the call's own (hard, soft) time limits in seconds; None: the task's."""
    return request.time_limit, request.soft_time_limit


def _name(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidTaskError(f"The header {what!r} must be text; it is {shown(value)}.")
    if len(value) > LONGEST_NAME:
        raise InvalidTaskError(f"The header {what!r} is longer than {LONGEST_NAME} characters.")
    if not value.isascii() or "\0" in value:
        _check_storable(value, what)
    return value


def _check_storable(value: str, what: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidTaskError(f"The header {what!r} holds half a character: {shown(value)}.") from None
    if "\0" in value:
        raise InvalidTaskError(f"The header {what!r} holds a NUL, which no database keeps: {shown(value)}.")


def _text(value: Any, what: str) -> str | None:
    return None if value is None or value == "" else _name(value, what)


def _said(value: Any, what: str = "") -> str | None:
    """Return what is only for people, whatever its type."""
    return value if value is None or type(value) is str else str(value)


def _whole(value: Any, what: str) -> int | None:
    if value is None or type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    raise InvalidTaskError(f"The header {what!r} must be a whole number; it is {shown(value)}.")


def _retries(value: Any, what: str) -> int:
    retries = _whole(value, what) or 0
    if not 0 <= retries <= _MOST_RETRIES:
        raise InvalidTaskError(f"The header 'retries' must be from 0 to {_MOST_RETRIES}, not {shown(value)}.")
    return retries


def _limits(value: Any, what: str) -> list[float | None] | None:
    if not value or value == _NO_LIMITS:
        return None
    if isinstance(value, list | tuple) and len(value) == 2 and all(_is_limit(limit) for limit in value):
        return list(value)
    raise InvalidTaskError(f"The header 'timelimit' must be [hard, soft] in seconds; it is {shown(value)}.")


def _is_limit(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and 0 <= value < float("inf"))


def _moment(value: Any, what: str) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            moments.epoch(value)
            return value
        except (ValueError, OverflowError):
            pass
    elif hasattr(value, "isoformat"):  # AMQP and pickle carry datetimes
        return _moment(value.isoformat(), what)
    raise InvalidTaskError(f"The header {what!r} must be a moment in ISO 8601; it is {shown(value)}.")


def _check_stamps(stamped: Any, stamps: Any) -> None:
    if not (isinstance(stamps, dict) or stamps is None):
        raise InvalidTaskError(f"The header 'stamps' must be an object; it is {shown(stamps)}.")
    if stamped is not None and not (
        isinstance(stamped, list | tuple) and all(isinstance(name, str) for name in stamped)
    ):
        raise InvalidTaskError(f"The header 'stamped_headers' must be a list of names, not {shown(stamped)}.")


def _truth(value: Any, what: str) -> bool:
    return bool(value)


def _as_it_is(value: Any, what: str) -> Any:
    return value


#: The headers that are known, and what reads them; any other is kept as it is.
_READERS: dict[str, Callable[[Any, str], Any]] = {
    **dict.fromkeys(("id", "task"), _name),
    **dict.fromkeys(("root_id", "parent_id", "group"), _text),
    **dict.fromkeys(("group_index", "replaced_task_nesting"), _whole),
    **dict.fromkeys(("eta", "expires"), _moment),
    **dict.fromkeys(("shadow", "argsrepr", "kwargsrepr", "origin", "lang", "compression"), _said),
    "retries": _retries,
    "timelimit": _limits,
    "ignore_result": _truth,
    **dict.fromkeys(("stamped_headers", "stamps"), _as_it_is),
    "meth": lambda value, what: None,
}
