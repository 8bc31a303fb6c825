"""What arguments and results look like in headers, events and logs: short, and safe to make.

A value comes in; one line as Celery writes it leaves (`argsrepr`, `kwargsrepr`): Python notation, cut at
`limit` characters and `levels` levels, brackets always closed. Monitors parse and compare this text, so its
form is Celery's to the letter, including that text is quoted but not escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from numbers import Number
from typing import Any

LIMIT = 1024
LEVELS = 3
#: Up to so many members a container is worth trying to write without counting.
_FEW = 32

OPEN, CLOSE, TEXT, KEY, QUOTED, VERBATIM = range(6)
Token = tuple[int, Any]

_SEPARATOR: Token = (VERBATIM, ", ")
_COLON: Token = (VERBATIM, ": ")


def safe_repr(value: Any, limit: int = LIMIT, levels: int = LEVELS) -> str:
    """Return the representation of `value`, about `limit` characters at most."""
    try:
        quick = _quick(value, levels, limit)
        if quick is not None and len(quick) < limit:
            return quick
        return "".join(_cut(_tokens(value, levels, 0, set()), limit, levels))
    except Exception as exc:
        return f"<{type(value).__name__} whose repr raised {type(exc).__name__}>"


def shown(value: Any) -> str:
    """Return the value as error messages show it: short, and "missing" for None."""
    return "missing" if value is None else safe_repr(value, 80)


def _quick(value: Any, levels: int, limit: int) -> str | None:
    """Return the representation if `value` is plain and small; None sends it the long way."""
    kind = type(value)
    if kind is str:
        return f"'{value}'" if len(value) < limit and "'" not in value else None
    if kind is int or kind is float or kind is bool or value is None:
        return repr(value)
    if kind is tuple or kind is list:
        return _quick_list(value, kind is tuple, levels, limit)
    if kind is dict:
        return _quick_dict(value, levels, limit)
    return None


def _quick_list(value: Any, is_tuple: bool, levels: int, limit: int) -> str | None:
    if levels <= 0 or len(value) > _FEW:
        return None
    parts: list[str] = []
    for item in value:
        part = _quick(item, levels - 1, limit)
        if part is None:
            return None
        parts.append(part)
    inside = ", ".join(parts)
    if not is_tuple:
        return f"[{inside}]"
    return f"({inside},)" if len(parts) == 1 else f"({inside})"


def _quick_dict(value: dict[Any, Any], levels: int, limit: int) -> str | None:
    if levels <= 0 or len(value) > _FEW:
        return None
    if not value:
        return "{}"
    parts: list[str] = []
    for key, item in value.items():
        part = _quick(item, levels - 1, limit)
        if type(key) is not str or "'" in key or part is None:
            return None
        parts.append(f"'{key}': {part}")
    return "{" + ", ".join(parts) + "}"


def _cut(tokens: Iterable[Token], limit: int, levels: int) -> Iterator[str]:
    """Turn tokens into text until the limit is used up, then close what is open."""
    left = limit
    closing: list[str] = []
    for kind, content in tokens:
        if left <= 0 and kind != CLOSE:
            yield ", ..."
            yield from reversed(closing)
            return
        if kind == OPEN:
            text, end = content
            closing.append(end)
        elif kind == CLOSE:
            text = closing.pop()
        elif kind == KEY:
            text = "".join(_cut(_tokens(content, levels, 0, set()), left, levels))
        elif kind == QUOTED:
            text = _quoted(content, left)
        elif kind == TEXT:
            text = _shortened(content, left)
        else:
            text = content
        yield text
        left -= len(text)


def _tokens(value: Any, levels: int, level: int, seen: set[int]) -> Iterator[Token]:
    """Yield the representation piece by piece, so that nobody pays for what is cut off."""
    if isinstance(value, Decimal | range):
        yield TEXT, repr(value)
    elif isinstance(value, Number):
        yield TEXT, str(value)
    elif isinstance(value, str | bytes):
        yield QUOTED, value
    elif isinstance(value, set | frozenset) and not value:
        yield TEXT, f"{type(value).__name__}()"
    elif isinstance(value, set | frozenset | tuple | dict | list):
        start, end = _brackets(value)
        if level >= levels:
            yield VERBATIM, f"{start}...{end}"
        elif id(value) in seen:
            yield TEXT, f"<Recursion on {type(value).__name__} with id={id(value)}>"
        else:
            seen.add(id(value))
            yield OPEN, (start, end)
            yield from _members(value, levels, level + 1, seen)
            seen.discard(id(value))
            yield CLOSE, None
    else:
        yield TEXT, _guarded(value)


def _members(value: Any, levels: int, level: int, seen: set[int]) -> Iterator[Token]:
    is_first = True
    for member in value.items() if isinstance(value, dict) else value:
        if not is_first:
            yield _SEPARATOR
        is_first = False
        if isinstance(value, dict):
            key, member = member
            yield KEY, key
            yield _COLON
        yield from _tokens(member, levels, level, seen)


def _brackets(value: Any) -> tuple[str, str]:
    if isinstance(value, tuple):
        return "(", ",)" if len(value) == 1 else ")"
    if isinstance(value, dict):
        return "{", "}"
    if isinstance(value, list):
        return "[", "]"
    if type(value) is set:
        return "{", "}"
    return f"{type(value).__name__}({{", "})"


def _quoted(text: str | bytes, left: int) -> str:
    if isinstance(text, str):
        return "'" + _shortened(text, left).replace("'", "\\'") + "'"
    piece = text[:left]
    try:
        shown = piece.decode()
    except UnicodeDecodeError:
        shown = piece.hex()
    return f"b'{shown}{'...' if len(text) > left else ''}'"


def _shortened(text: str, left: int) -> str:
    """Cut at the last space before the limit, as Celery does."""
    return text[:left].rsplit(" ", 1)[0] + "..." if len(text) >= left else text


def _guarded(value: Any) -> str:
    try:
        return repr(value)
    except Exception as exc:
        return f"<{type(value).__name__} whose repr raised {type(exc).__name__}>"
