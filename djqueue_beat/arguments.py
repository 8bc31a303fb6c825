"""What an entry sends: its JSON columns, read and checked.

A row of `PeriodicTask` comes in (only its columns are looked at); positional and named arguments and the
options of `apply_async` leave. A mistake says which column, what is in it, and what to write.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

from djqueue.core.calls import Plan, asked
from djqueue.core.moments import parse
from djqueue.core.serialization import loads_json
from djqueue.exceptions import DecodeError
from djqueue_beat.moments import from_column

#: columns that are options of `apply_async` under the same name
SAME_NAME = ("queue", "exchange", "routing_key", "priority")
#: what beat itself decides
RESERVED_OPTIONS = frozenset({"task_id", "on_commit", "using", "args", "kwargs"})


class BrokenEntry(ValueError):
    """An entry that cannot be sent as it is; `column` says where the mistake is."""

    def __init__(self, column: str, message: str) -> None:
        super().__init__(message)
        self.column = column


class Row(Protocol):
    """The columns of an entry that matter here."""

    name: Any
    task: Any
    args: Any
    kwargs: Any
    headers: Any
    options: Any
    expires: Any
    expire_seconds: Any


def positional(row: Row) -> list[Any]:
    """Return the positional arguments."""
    return _json(row.args or "[]", "args", list, '["a", 1]')


def named(row: Row) -> dict[str, Any]:
    """Return the named arguments."""
    return _json(row.kwargs or "{}", "kwargs", dict, '{"key": "value"}')


def headers(row: Row) -> dict[str, Any]:
    """Return the message headers that the entry asks for."""
    return _json(row.headers or "{}", "headers", dict, '{"key": "value"}')


def call_options(row: Row) -> dict[str, Any]:
    """Return the options of `apply_async`, expiry included, headers not."""
    options: dict[str, Any] = _json(row.options or "{}", "options", dict, '{"time_limit": 60}')
    options |= {name: getattr(row, name) for name in SAME_NAME if getattr(row, name, None) not in (None, "")}
    if row.expire_seconds is not None:
        options["expires"] = row.expire_seconds
    elif row.expires is not None:
        options["expires"] = from_column(row.expires)
    reserved = RESERVED_OPTIONS.intersection(options)
    if reserved:
        raise BrokenEntry("options", f"options may not set {', '.join(sorted(reserved))}: beat does.")
    return options


def check(row: Row) -> None:
    """Raise `BrokenEntry` for the first mistake in the row's columns."""
    positional(row)
    named(row)
    wanted = headers(row)
    options = call_options(row)
    column = "options"
    try:
        asked(Plan.for_name(row.task), (), {}, options)
        column = "headers"
        asked(Plan.for_name(row.task), (), {}, {"headers": wanted})
    except (TypeError, ValueError) as error:
        raise BrokenEntry(column, f"{column}: {error}") from error


def columns_of_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return options of `apply_async` as columns of their own, and the rest."""
    rest = dict(options)
    columns: dict[str, Any] = dict.fromkeys((*SAME_NAME, "expires", "expire_seconds"))
    for name in SAME_NAME:
        value = rest.pop(name, None)
        columns[name] = getattr(value, "name", value)  # kombu's queues and exchanges have a name
    columns["headers"] = rest.pop("headers", None) or {}
    expires = rest.pop("expires", None)
    if isinstance(expires, int | float | timedelta):
        seconds = expires.total_seconds() if isinstance(expires, timedelta) else expires
        columns["expire_seconds"] = math.ceil(seconds)
    else:
        columns["expires"] = parse(expires) if isinstance(expires, str) else expires
    return columns, rest


def _json(text: str, column: str, kind: type, example: str) -> Any:
    what = "list" if kind is list else "object"
    try:
        value = loads_json(text)
    except DecodeError as error:
        raise BrokenEntry(
            column, f"{column} is not JSON: {error} Write a JSON {what} such as {example}."
        ) from error
    if not isinstance(value, kind):
        raise BrokenEntry(column, f"{column} must be a JSON {what} such as {example}; it is {text:.100}.")
    return value
