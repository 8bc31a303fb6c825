"""What is stored, made fit for people and for JSON: values, errors, children, representations.

Documents and texts of any origin come in; nothing is unpickled or rebuilt. Plain values leave that every
JSON writer takes, and text in which no character can hide, reorder or break out of its line.
"""

from __future__ import annotations

import ast
import json
import math
from pprint import pformat
from typing import Any

from djqueue import states
from djqueue.core.serialization import JSON_TYPE
from djqueue.log import escape
from djqueue.result.documents import Document

#: How much of a text a page shows, in characters.
SHOWN = 20_000
DEEPEST = 50
_TYPED = {"__type__", "__value__"}


def value_of(document: Document) -> Any:
    """Return the stored value in terms of JSON; what is not JSON is only described."""
    if document.content_type != JSON_TYPE:
        return f"<{len(document.result)} bytes of {document.content_type}>"
    try:
        return _plain(json.loads(document.result))
    except (ValueError, RecursionError):
        return f"<{len(document.result)} characters that are not JSON>"


def error_of(document: Document) -> dict[str, Any] | None:
    """Return type, module and message of the exception that the task ended or will be retried with."""
    if document.status not in states.EXCEPTION_STATES:
        return None
    value = value_of(document)
    if not isinstance(value, dict):
        return {"type": None, "module": None, "message": "" if value is None else str(value)}
    message = value.get("exc_message")
    if isinstance(message, list):
        message = ", ".join(map(str, message))
    return {
        "type": value.get("exc_type"),
        "module": value.get("exc_module"),
        "message": "" if message is None else str(message),
    }


def progress_of(document: Document) -> Any:
    """Return what the task said of its progress by `update_state`; None in the usual states."""
    is_usual = document.status in states.ALL_STATES or document.status in (states.IGNORED, states.REJECTED)
    return None if is_usual else value_of(document)


def children_ids(children: Any) -> list[str]:
    """Return the ids of the tasks and groups that a task sent, from Celery's result tuples."""
    found = []
    for child in children if isinstance(children, list) else ():
        # [[id, parent], None] is a task, [[id, parent], [child, …]] a group.
        head = child[0] if isinstance(child, list) and child else child
        own = head[0] if isinstance(head, list) and head else head
        if isinstance(own, str):
            found.append(own)
    return found


def pretty_value(value: Any) -> str:
    """Return a plain value as text of several lines."""
    return text_block(json.dumps(value, indent=2, ensure_ascii=False))


def pretty_arguments(representation: str) -> str:
    """Return the representation of arguments, over several lines if it can be taken apart."""
    try:
        values = ast.literal_eval(representation)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # cut short, or objects inside
        return text_block(representation)
    return text_block(pformat(values, width=84, compact=True, sort_dicts=False))


def text_block(text: str, limit: int = SHOWN) -> str:
    """Return the text with its lines kept, unsafe characters written out, and at most `limit` characters."""
    shown = "\n".join(escape(line, limit) for line in text[:limit].split("\n"))
    left = len(text) - limit
    return f"{shown}\n… and {left:,} more characters" if left > 0 else shown


def _plain(value: Any, depth: int = 0) -> Any:
    """Return the value without what breaks JSON writers: NaN, lone surrogates, bottomless nesting."""
    if depth > DEEPEST:
        return "…"
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, list):
        return [_plain(one, depth + 1) for one in value]
    if isinstance(value, dict):
        if value.keys() == _TYPED:  # how kombu writes dates, decimals, UUIDs: the text says it all
            return _plain(value["__value__"], depth + 1)
        return {_plain(key): _plain(one, depth + 1) for key, one in value.items()}
    return value
