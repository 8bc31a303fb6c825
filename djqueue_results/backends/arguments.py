"""A task's arguments in a stored document: Celery stores values, a message carries their representation.

Representations come in and JSON leaves, and the other way round. They come from outside, so nothing here is
run, and patterns can match each character in one way only.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

_quoted = json.encoder.encode_basestring_ascii
#: representations longer than this, or with escapes that Python does not write, stay text
_LONGEST = 1024
_FOREIGN_ESCAPE = re.compile(r"\\(?![\\'\"nrtxuU])")
_TEXT = r"'[^'\\]*'"
_PLAIN = rf"-?(?:0|[1-9][0-9]{{0,14}})(?:\.[0-9]{{1,17}})?|{_TEXT}|None|True|False"
_ARGS = re.compile(rf"\((?:(?:{_PLAIN})(?:, (?:{_PLAIN}))*,?)?\)")
_KWARGS = re.compile(rf"\{{(?:{_TEXT}: (?:{_PLAIN})(?:, {_TEXT}: (?:{_PLAIN}))*)?\}}")
_EACH_ARG = re.compile(_PLAIN)
_EACH_KWARG = re.compile(rf"({_TEXT}): ({_PLAIN})")
_WORDS = {"None": "null", "True": "true", "False": "false"}


def args_json(representation: str | None) -> str:
    """Return positional arguments as JSON: a list, or the text itself where it does not tell the values.

    It does not when it was cut short, hides them, or has objects in it.
    """
    if representation is None:
        return "null"
    if _ARGS.fullmatch(representation):  # most are, and evaluating takes ten times as long
        return f"[{', '.join(map(_plain, _EACH_ARG.findall(representation)))}]"
    return _evaluated(representation, tuple)


def kwargs_json(representation: str | None) -> str:
    """Return keyword arguments as JSON: an object, or the text itself where it does not tell the values."""
    if representation is None:
        return "null"
    if representation == "{}":  # most tasks have none
        return representation
    if _KWARGS.fullmatch(representation):
        pairs = _EACH_KWARG.findall(representation)
        return f"{{{', '.join(f'{_plain(name)}: {_plain(value)}' for name, value in pairs)}}}"
    return _evaluated(representation, dict)


def representation(value: Any, kind: type) -> str | None:
    """Return the representation of stored arguments; text is one already."""
    if value is None or isinstance(value, str):
        return value
    return repr(kind(value) if isinstance(value, list | dict) else value)


def _plain(text: str) -> str:
    return _quoted(text[1:-1]) if text[0] == "'" else _WORDS.get(text, text)


def _evaluated(representation: str, kind: type) -> str:
    if len(representation) <= _LONGEST and not _FOREIGN_ESCAPE.search(representation):
        try:
            value = ast.literal_eval(representation)
            if type(value) is kind:
                return json.dumps(value, allow_nan=False)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            pass
    return _quoted(representation)
