"""What a setting's value may be: each kind checks, normalises and reads from the environment.

`defaults.py` says which kind each setting is; `conf.py` calls `check` on what the user wrote and `read` on
the text of an environment variable. A value that does not fit raises ValueError with a sentence for people.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from difflib import get_close_matches
from math import isfinite
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from djqueue.core.retrying import PublishPolicy

#: what a queue in the form of a dict may say, by kombu's names
QUEUE_OPTIONS = frozenset(
    {
        *("exchange", "exchange_type", "exchange_durable", "exchange_auto_delete", "exchange_arguments"),
        *("routing_key", "binding_key", "bindings", "binding_arguments", "delivery_mode", "durable"),
        *("queue_durable", "queue_auto_delete", "auto_delete", "exclusive", "no_ack", "no_declare", "alias"),
        *("queue_arguments", "consumer_arguments", "expires", "message_ttl", "max_length"),
        *("max_length_bytes", "max_priority"),
    }
)


class Kind:
    """A kind of value. `words` names it in error messages and on the settings page."""

    def __init__(self, words: str, check: Callable[[Any], Any], read: Callable[[str], Any] = str) -> None:
        self.words = words
        self._check = check
        self._read = read

    def check(self, value: Any) -> Any:
        """Return the value in the form djqueue works with.

        Raises:
            ValueError: the value does not fit.
        """
        return self._check(value)

    def read(self, text: str) -> Any:
        """Return the value an environment variable's text stands for, not yet checked."""
        return self._read(text)


def optional(kind: Kind) -> Kind:
    """Return the kind that also takes None (in the environment: nothing, or the word none)."""
    return Kind(
        f"{kind.words} or None",
        lambda value: None if value is None else kind.check(value),
        lambda text: None if text.strip().lower() in ("", "none", "null") else kind.read(text),
    )


def seconds(words: str = "seconds or a timedelta", above: float | None = None) -> Kind:
    """Return the kind of lengths of time in seconds, from 0, or of those that are more than `above`."""

    def check(value: Any) -> float:
        if isinstance(value, timedelta):
            value = value.total_seconds()
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise ValueError(f"must be {words}")
        if value < 0 or (above is not None and value <= above):
            raise ValueError("must be 0 or more" if above is None else f"must be more than {above:g}")
        return value

    return Kind(words, check, _read_number)


def whole(least: int = 0, most: int | None = None, words: str = "a whole number") -> Kind:
    """Return the kind of whole numbers from `least` to `most`."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"must be {words}")
        if value < least or (most is not None and value > most):
            raise ValueError(f"must be {least} or more" if most is None else f"must be {least} to {most}")
        return value

    return Kind(words, check, _read_number)


def one_of(*choices: Any) -> Kind:
    """Return the kind that takes one of the given values."""
    words = " or ".join(map(repr, choices))

    def check(value: Any) -> Any:
        if isinstance(value, bool) or value not in choices:
            raise ValueError(f"must be {words}")
        return value

    return Kind(words, check, lambda text: next((one for one in choices if str(one) == text), text))


def _read_number(text: str) -> Any:
    for make in (int, float):
        try:
            return make(text)
        except ValueError:
            continue
    return text


def _read_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as exc:
        raise ValueError(f"must be JSON in the environment: {exc}") from None


def _check_boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be True or False")
    return value


def _read_boolean(text: str) -> Any:
    words = {"true": True, "on": True, "yes": True, "1": True, "y": True, "ok": True}
    words |= {"false": False, "off": False, "no": False, "0": False, "n": False, "": False}
    return words.get(text.strip().lower(), text)


def _read_boolean_or_json(text: str) -> Any:
    return _read_json(text) if text.strip().startswith("{") else _read_boolean(text)


def _check_text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be text that is not empty")
    return value


def _check_texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError("must be a list of text" + (", not one text" if isinstance(value, str) else ""))
    texts = tuple(value)
    if not all(isinstance(item, str) and item for item in texts):
        raise ValueError("must be a list of text")
    return texts


def _check_addresses(value: Any) -> str:
    if isinstance(value, list | tuple):
        value = ";".join(map(_check_text, value))
    return _check_text(value)


def _check_tls(value: Any) -> bool | Mapping[str, Any]:
    if not isinstance(value, bool | Mapping):
        raise ValueError("must be True, False, or a dict of what `ssl` takes")
    return value


def _check_strategy(value: Any) -> Any:
    if value in ("round-robin", "shuffle") or callable(value):
        return value
    if isinstance(value, str) and "." in value:
        return value
    raise ValueError(
        "must be 'round-robin', 'shuffle', or a function (or its dotted path) that yields addresses"
    )


def _check_callback(value: Any) -> Any:
    if callable(value) or (isinstance(value, str) and "." in value):
        return value
    raise ValueError("must be a function or its dotted path")


def _check_provider(value: Any) -> Any:
    if hasattr(value, "get_credentials") or (isinstance(value, str) and "." in value):
        return value
    raise ValueError("must be a redis.CredentialProvider or its dotted path")


def _check_mapping(value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("must be a dict")
    return value


def _check_options_by_name(value: Any) -> Mapping[str, Any]:
    for name, options in _check_mapping(value).items():
        if not isinstance(name, str) or not isinstance(options, Mapping):
            raise ValueError(f"must be a dict of dicts: {name!r} has {options!r}")
    return value  # type: ignore[no-any-return]


def _check_rate(value: Any) -> str | int | float:
    text = str(value)
    rate, _, unit = text.partition("/")
    try:
        fits = not isinstance(value, bool) and float(rate) >= 0 and unit in ("", "s", "m", "h")
    except ValueError:
        fits = False
    if not fits:
        raise ValueError("must be a rate such as '10/s', '100/m', '1000/h', or a number per second")
    return value  # type: ignore[no-any-return]


def _check_routes(value: Any) -> Any:
    if isinstance(value, str | Mapping) or callable(value) or hasattr(value, "route_for_task"):
        return value
    if isinstance(value, list | tuple):
        return value
    raise ValueError("must be a dict, a function, a dotted path, or a list of those")


def _check_queues(value: Any) -> Any:
    if isinstance(value, Mapping):
        for name, options in value.items():
            if not isinstance(name, str) or not name:
                raise ValueError(f"must have names of queues as its keys; one is {name!r}")
            if not _is_queue(options):
                _check_queue_options(name, options)
        return value
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError("must be a list of queues or names, or a dict of options by name")
    queues = tuple(value)
    for one in queues:
        if not _is_queue(one) and not (isinstance(one, str) and one):
            raise ValueError(f"must be a list of kombu's Queue objects and names; {one!r} is neither")
    return queues


def _is_queue(value: Any) -> bool:
    """Tell kombu's Queue, which cannot be imported here."""
    return hasattr(value, "name") and hasattr(value, "routing_key")


def _check_queue_options(name: str, options: Any) -> None:
    if not isinstance(options, Mapping):
        raise ValueError(f"must have options by name of queue; {name!r} has {options!r}")
    for option in options:
        if option not in QUEUE_OPTIONS:
            near = get_close_matches(str(option), QUEUE_OPTIONS, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"has {option!r} for the queue {name!r}, which is not an option of queues{meant}"
            )


def _check_publish_policy(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("must be a dict of retry settings")
    PublishPolicy.of(value)
    return value


def _check_timezone(value: Any) -> str:
    try:
        ZoneInfo(_check_text(value))
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError("must be the name of a time zone, such as 'Europe/Oslo'") from None
    return value  # type: ignore[no-any-return]


def _check_exceptions(value: Any) -> str | tuple[str, ...]:
    return value if value in ("imported", "strict") else _check_texts(value)


def _split(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


BOOLEAN = Kind("True or False", _check_boolean, _read_boolean)
TEXT = Kind("text", _check_text)
ADDRESSES = Kind("text, or a list of text", _check_addresses)
TLS = Kind("True, False or a dict", _check_tls, _read_boolean_or_json)
STRATEGY = Kind("'round-robin', 'shuffle', a function or its dotted path", _check_strategy)
CALLBACK = Kind("a function or its dotted path", _check_callback)
PROVIDER = Kind("a CredentialProvider or its dotted path", _check_provider)
TEXTS = Kind("a list of text", _check_texts, _split)
MAPPING = Kind("a dict", _check_mapping, _read_json)
OPTIONS_BY_NAME = Kind("a dict of dicts", _check_options_by_name, _read_json)
SECONDS = seconds()
LIMIT = seconds(above=0)
RATE = Kind("a rate such as '10/m'", _check_rate)
ROUTES = Kind("a dict, function, dotted path, or list of those", _check_routes, _read_json)
QUEUE_LIST = Kind("a list of queues or names, or a dict of options by name", _check_queues, _read_json)
PUBLISH_POLICY = Kind("a dict of retry settings", _check_publish_policy, _read_json)
TIMEZONE = Kind("the name of a time zone", _check_timezone)
EXCEPTIONS = Kind(
    "'imported', 'strict', or a list of dotted class names",
    _check_exceptions,
    lambda text: text if text in ("imported", "strict") else _split(text),
)
