"""Revoking by stamps: what is remembered of a stamp that no task may carry any more.

A header and its value come in; a mark leaves, a short text that is kept among the ids of revoked tasks, in
workers and in brokers' records. A task is revoked when a mark of one of its stamps is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

_PREFIX = "stamp:"
#: longer marks are kept as a digest, characters
LONGEST = 200


def named(headers: Any) -> dict[str, Any]:
    """Return header → value, or a list of them, from just that or from texts like `header=value`.

    Raises:
        ValueError: no stamp is named.
    """
    if isinstance(headers, Mapping):
        stamps = dict(headers)
    else:
        stamps = {}
        for text in [headers] if isinstance(headers, str) else headers:
            header, equals, value = str(text).partition("=")
            if not equals:
                raise ValueError(f"{text!r} names no stamp: write header=value.")
            stamps.setdefault(header, []).append(value)
    if not stamps:
        raise ValueError("No stamp was named: give a header and a value, or a list of values.")
    return stamps


def marks(stamps: Mapping[str, Any]) -> list[str]:
    """Return the marks of stamps: header → one value, or a list of them."""
    return [mark(header, value) for header, values in stamps.items() for value in several(values)]


def marks_on(stamped_headers: Iterable[str] | None, stamps: Mapping[str, Any] | None) -> list[str]:
    """Return the marks of a request's stamps."""
    if not stamped_headers or not stamps:
        return []
    return marks({header: stamps[header] for header in stamped_headers if header in stamps})


def is_mark(text: str) -> bool:
    """Return whether a text among the ids of revoked tasks is the mark of a stamp."""
    return text.startswith(_PREFIX)


def several(values: Any) -> list[Any]:
    """Return the values of one header as a list."""
    return list(values) if isinstance(values, list | tuple | set | frozenset) else [values]


def mark(header: str, value: Any) -> str:
    """Return the mark of one value of a stamp."""
    text = f"{_PREFIX}{header}={json.dumps(value, sort_keys=True, default=str)}"
    if len(text) <= LONGEST:
        return text
    return _PREFIX + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
