"""Reading what a task was called with: arguments, and what is to follow it.

The child that runs a task comes in with the message; `(args, kwargs, embed)` leaves, checked, whatever shape
the sender gave it, or an error that says what is wrong with the body.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from djqueue.core.messages import WireMessage
from djqueue.core.reprs import shown
from djqueue.core.sealing import open_body
from djqueue.exceptions import InvalidTaskError

Body = tuple[Any, Mapping[str, Any], dict[str, Any]]


def read_body(message: WireMessage, accept: Iterable[str] | None = None) -> Body:
    """Return `(args, kwargs, embed)`; `accept` is ACCEPT_CONTENT when not given.

    `embed` has exactly the keys callbacks, errbacks, chain and chord.

    Raises:
        ContentDisallowed: the body's content type is not accepted.
        DecodeError: the body cannot be read.
        InvalidTaskError: it does not hold arguments.
    """
    content = open_body(message, accept)
    if isinstance(content, dict) and ("args" in content or "kwargs" in content):
        # Headers of protocol 2 with a body in the manner of protocol 1: some clients mix them.
        return checked(content.get("args", []), content.get("kwargs", {}), content)
    if not isinstance(content, list | tuple) or not 2 <= len(content) <= 3:
        raise InvalidTaskError(f"The body of a task must be [args, kwargs, embed]; it is {shown(content)}.")
    return checked(content[0], content[1], content[2] if len(content) == 3 else None)


def checked(args: Any, kwargs: Any, embed: Any) -> Body:
    """Return the three parts of a body in their one form; `embed` may be missing, or have other keys besides.

    Raises:
        InvalidTaskError: a part is not what it must be.
    """
    if not isinstance(args, list | tuple):
        raise InvalidTaskError(f"The args of a task must be a list; they are {shown(args)}.")
    if not isinstance(kwargs, dict) or not all(isinstance(key, str) for key in kwargs):
        raise InvalidTaskError(
            f"The kwargs of a task must be an object with text keys; they are {shown(kwargs)}."
        )
    if embed is None:
        embed = {}
    if not isinstance(embed, dict):
        raise InvalidTaskError(f"The third part of a body must be an object or null; it is {shown(embed)}.")
    return (
        args,
        kwargs,
        {
            "callbacks": _signatures(embed.get("callbacks"), "callbacks"),
            "errbacks": _signatures(embed.get("errbacks"), "errbacks"),
            "chain": _signatures(embed.get("chain"), "chain"),
            "chord": _signature(embed.get("chord"), "chord") if embed.get("chord") else None,
        },
    )


def _signatures(value: Any, what: str) -> list[Any] | None:
    if value is None:
        return None
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list | tuple):
        raise InvalidTaskError(f"The {what} of a task must be a list of signatures; they are {shown(value)}.")
    return [_signature(one, what) for one in value]


def _signature(value: Any, what: str) -> Any:
    if not isinstance(value, dict) or not isinstance(value.get("task"), str):
        raise InvalidTaskError(f"A signature in {what} must be an object with a task; it is {shown(value)}.")
    return value
