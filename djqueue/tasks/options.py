"""The options of a task: which there are, what they may be, and what holds when a task says nothing.

Declaring a task comes in with what the user wrote; checked values leave, or an error that names the option,
the value and what was probably meant. `IN_SETTINGS` says which setting answers for an option left at None.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from djqueue.core.kinds import BOOLEAN, MAPPING, RATE, SECONDS, TEXT, Kind, one_of, optional, whole


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a task; None as default leaves the choice to the route, the call or the settings."""

    kind: Kind
    default: Any
    help: str


def _check_exceptions(value: Any) -> tuple[type[BaseException], ...]:
    listed = (value,) if isinstance(value, type) else value
    if not isinstance(listed, Iterable) or isinstance(listed, str):
        raise ValueError("must be an exception class or a tuple of them")
    classes = tuple(listed)
    if not all(isinstance(one, type) and issubclass(one, BaseException) for one in classes):
        raise ValueError("must be an exception class or a tuple of them")
    return classes


def _check_backoff(value: Any) -> bool | int | float:
    if isinstance(value, bool) or (isinstance(value, int | float) and value >= 0):
        return value
    raise ValueError("must be True, False, or a number of seconds")


def _check_expires(value: Any) -> Any:
    if isinstance(value, int | float | timedelta | datetime) and not isinstance(value, bool):
        return value
    raise ValueError("must be a number of seconds, a timedelta or a datetime")


def _check_queue(value: Any) -> str:
    return TEXT.check(getattr(value, "name", value))  # type: ignore[no-any-return]  # kombu's Queue has a name


EXCEPTIONS = Kind("an exception class or a tuple of them", _check_exceptions)
BACKOFF = Kind("True, False, or a number of seconds", _check_backoff)
EXPIRES = Kind("a number of seconds, a timedelta or a datetime", _check_expires)
QUEUE = Kind("a queue's name", _check_queue)

#: the value of the option `ack`
TRANSACTIONAL = "transactional"

OPTIONS: dict[str, Option] = {
    # sending
    "queue": Option(optional(QUEUE), None, "The queue its messages go to."),
    "exchange": Option(optional(QUEUE), None, "The AMQP exchange its messages go to."),
    "routing_key": Option(optional(TEXT), None, "The AMQP routing key of its messages."),
    "priority": Option(optional(whole(0, 255)), None, "The priority of its messages."),
    "delivery_mode": Option(
        optional(one_of(2, 1, "persistent", "transient")), None, "Whether brokers write its messages to disk."
    ),
    "serializer": Option(optional(TEXT), None, "How its arguments are written."),
    "compression": Option(optional(TEXT), None, "How its bodies are compressed."),
    "expires": Option(optional(EXPIRES), None, "A call not started by then is not run any more."),
    "typing": Option(BOOLEAN, True, "Check arguments against the signature before sending."),
    "resultrepr_maxsize": Option(whole(1), 1024, "The longest representation of arguments and result."),
    # results
    "ignore_result": Option(optional(BOOLEAN), None, "Keep no result."),
    "store_errors_even_if_ignored": Option(optional(BOOLEAN), None, "Keep failures even so."),
    "store_eager_result": Option(optional(BOOLEAN), None, "Keep the result of eager runs, too."),
    "track_started": Option(optional(BOOLEAN), None, "Keep the state STARTED."),
    "trail": Option(BOOLEAN, True, "Record the tasks it sends as its children."),
    "throws": Option(EXCEPTIONS, (), "Exceptions that are expected: logged without traceback."),
    # running
    "ack": Option(
        optional(one_of(TRANSACTIONAL)),
        None,
        "'transactional': its writes, its result and the end of its message commit together.",
    ),
    "acks_late": Option(optional(BOOLEAN), None, "Its message leaves the broker after it ran."),
    "acks_on_failure_or_timeout": Option(optional(BOOLEAN), None, "Failing counts as done with."),
    "acks_on_failure": Option(optional(BOOLEAN), None, "The same for failures only."),
    "acks_on_timeout": Option(optional(BOOLEAN), None, "The same for time limits only."),
    "reject_on_worker_lost": Option(optional(BOOLEAN), None, "Deliver it again when its process died."),
    "rate_limit": Option(optional(RATE), None, "How often a worker starts it: '10/m'."),
    "time_limit": Option(optional(SECONDS), None, "Seconds after which it is killed."),
    "soft_time_limit": Option(optional(SECONDS), None, "Seconds until SoftTimeLimitExceeded is raised."),
    # trying again
    "max_retries": Option(optional(whole(0)), 3, "How often it is retried; None: for ever."),
    "default_retry_delay": Option(SECONDS, 180, "Seconds before a retry that names no time."),
    "autoretry_for": Option(EXCEPTIONS, (), "Exceptions after which it is retried by itself."),
    "dont_autoretry_for": Option(EXCEPTIONS, (), "Exceptions after which it is not, even so."),
    "retry_kwargs": Option(MAPPING, {}, "What such a retry is called with: countdown, max_retries, …"),
    "retry_backoff": Option(BACKOFF, False, "Wait longer each time: the first pause in seconds, True: 1."),
    "retry_backoff_max": Option(SECONDS, 600, "The longest of these pauses, seconds."),
    "retry_jitter": Option(BOOLEAN, True, "Spread these pauses at random."),
}

#: Option → the settings that answer for it while it is None; the first that is not None counts.
#: (Time limits are not here: the worker's own come before the settings.)
IN_SETTINGS: dict[str, tuple[str, ...]] = {
    "serializer": ("TASK_SERIALIZER",),
    "compression": ("TASK_COMPRESSION",),
    "priority": ("TASK_DEFAULT_PRIORITY",),
    "delivery_mode": ("TASK_DEFAULT_DELIVERY_MODE",),
    "rate_limit": ("TASK_DEFAULT_RATE_LIMIT",),
    "ignore_result": ("TASK_IGNORE_RESULT",),
    "store_errors_even_if_ignored": ("TASK_STORE_ERRORS_EVEN_IF_IGNORED",),
    "store_eager_result": ("TASK_STORE_EAGER_RESULT",),
    "track_started": ("TASK_TRACK_STARTED",),
    "acks_late": ("TASK_ACKS_LATE",),
    "acks_on_failure_or_timeout": ("TASK_ACKS_ON_FAILURE_OR_TIMEOUT",),
    "acks_on_failure": ("TASK_ACKS_ON_FAILURE", "TASK_ACKS_ON_FAILURE_OR_TIMEOUT"),
    "acks_on_timeout": ("TASK_ACKS_ON_TIMEOUT", "TASK_ACKS_ON_FAILURE_OR_TIMEOUT"),
    "reject_on_worker_lost": ("TASK_REJECT_ON_WORKER_LOST",),
}

#: Options of the decorator that are not attributes of the task.
DECORATOR_OPTIONS = ("name", "bind", "base")


def checked(options: Mapping[str, Any], whose: str, allowed: Iterable[str] = ()) -> dict[str, Any]:
    """Return the options with normalised values; `allowed` are names besides the known ones.

    Raises:
        TypeError: there is no such option.
        ValueError: an option has a value it cannot have.
    """
    values = {}
    for name, value in options.items():
        known = OPTIONS.get(name)
        if known is not None:
            values[name] = _value(name, known, value, whose)
        elif name in allowed:
            values[name] = value
        else:
            raise TypeError(_unknown(name, whose))
    return values


def check_together(soft: Any, hard: Any, whose: str) -> None:
    """Refuse a soft time limit that could never be reached.

    Raises:
        ValueError: the soft limit is above the hard one.
    """
    if soft is not None and hard is not None and soft > hard:
        raise ValueError(
            f"{whose}: soft_time_limit is {soft} and time_limit is {hard}. The soft limit must be the "
            "shorter one, or the task is killed before it hears of it."
        )


def check_acks(ack: Any, acks_late: Any, whose: str) -> None:
    """Refuse a message that is to go both before the task and together with it.

    Raises:
        ValueError: `ack` is "transactional" and `acks_late` is False.
    """
    if ack == TRANSACTIONAL and acks_late is False:
        raise ValueError(
            f'{whose}: ack="transactional" removes the message when the task commits, acks_late=False before'
            " the task starts. Leave one of them out."
        )


def _value(name: str, option: Option, value: Any, whose: str) -> Any:
    try:
        return option.kind.check(value)
    except ValueError as exc:
        raise ValueError(f"{whose}: the option {name} {exc}; it is {value!r}.") from None


def _unknown(name: str, whose: str) -> str:
    known = [*OPTIONS, *DECORATOR_OPTIONS]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"{whose}: there is no option {name!r}. Did you mean {near[0]!r}?"
    return (
        f"{whose}: there is no option {name!r}. There are {', '.join(sorted(known))}. An attribute of your "
        "own is declared on a class of your own, given with base=."
    )
