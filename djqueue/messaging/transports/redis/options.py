"""What BROKER_TRANSPORT_OPTIONS may say about a Redis: kombu's options, by kombu's names, and ours.

The dictionary comes in, `Options` leave, every value checked. Options that only a stock consumer needs are
accepted, so that one dictionary serves both while people move over; whatever else is unknown is an error,
because a misspelt key prefix would be a second, empty broker. The result store reads its options here, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from djqueue.conf import settings
from djqueue.exceptions import ImproperlyConfigured

#: Options of kombu that have nothing to do here: leases, one connection per purpose and our own retries
#: take their place.
WITHOUT_EFFECT = frozenset(
    {
        *("visibility_timeout", "unacked_mutex_key", "unacked_mutex_expire", "unacked_restore_interval"),
        *("unacked_restore_throttle", "unacked_restore_limit", "ack_emulation", "max_connections"),
        *("retry_on_timeout", "health_check_interval", "reauth_check_interval", "sentinel_fanout_compat"),
        *("max_retries", "interval_start", "interval_step", "interval_max", "polling_interval"),
        *("retry_policy", "result_chord_ordered"),
    }
)

ORDERS = ("round_robin", "sorted", "priority")
#: shorter leases would be lost to a busy machine, seconds
SHORTEST_LEASE = 0.5


@dataclass(frozen=True, slots=True)
class Options:
    """The options, with kombu's defaults, except for the timeouts, which kombu leaves open.

    `lease` is after how many seconds without a sign of life a worker's messages go to others. Sockets of
    workers wait `socket_timeout` for an answer. `allow_eviction` lets a worker start although the server may
    throw messages away, `share_queues` although another project consumes the same queues.
    """

    global_keyprefix: str = ""
    sep: str = "\x06\x16"
    priority_steps: tuple[int, ...] = (0, 3, 6, 9)
    queue_order_strategy: str = "round_robin"
    unacked_key: str = "unacked"
    unacked_index_key: str = "unacked_index"
    fanout_prefix: bool | str = True
    fanout_patterns: bool = True
    socket_timeout: float = 5.0
    socket_connect_timeout: float = 3.0
    socket_keepalive: bool = True
    socket_keepalive_options: Mapping[int, int] | None = None
    client_name: str | None = None
    credential_provider: Any = None
    master_name: str | None = None
    sentinel_kwargs: Mapping[str, Any] = field(default_factory=dict)
    min_other_sentinels: int = 0
    ssl: bool | Mapping[str, Any] = False
    lease: float = 15.0
    allow_eviction: bool = False
    share_queues: bool = False

    @classmethod
    def read(cls, given: Mapping[str, Any], setting: str = "BROKER_TRANSPORT_OPTIONS") -> Options:
        """Return the options that the dictionary, which is called `setting`, describes.

        Raises:
            djqueue.exceptions.ImproperlyConfigured: a name or a value is wrong.
        """
        known = {each.name: each for each in fields(cls)}
        values: dict[str, Any] = {}
        for name, value in given.items():
            if name in WITHOUT_EFFECT or value is None:
                continue
            if name not in known:
                near = get_close_matches(str(name), known, n=1)
                meant = f" Did you mean {near[0]!r}?" if near else ""
                raise ImproperlyConfigured(f"{setting}[{name!r}] is not an option of a Redis.{meant}")
            values[name] = _READERS.get(str(known[name].type), _as_is)(f"{setting}[{name!r}]", value)
        options = cls(**values)
        options._check(setting)
        return options

    @classmethod
    def of_broker(cls) -> Options:
        """Return the options in BROKER_TRANSPORT_OPTIONS, and in the settings that all brokers share."""
        given = dict(settings.BROKER_TRANSPORT_OPTIONS)
        if settings.BROKER_USE_SSL:
            given.setdefault("ssl", settings.BROKER_USE_SSL)
        if settings.is_set("BROKER_CONNECTION_TIMEOUT"):
            given.setdefault("socket_connect_timeout", settings.BROKER_CONNECTION_TIMEOUT)
        return cls.read(given)

    def _check(self, setting: str) -> None:
        steps = self.priority_steps
        if not steps or steps[0] != 0 or list(steps) != sorted(set(steps)):
            raise _wrong(
                f"{setting}['priority_steps']",
                steps,
                "rising whole numbers that begin with 0, such as [0, 3, 6, 9]",
            )
        if self.queue_order_strategy not in ORDERS:
            raise _wrong(
                f"{setting}['queue_order_strategy']", self.queue_order_strategy, f"one of {', '.join(ORDERS)}"
            )
        if self.lease < SHORTEST_LEASE:
            raise _wrong(
                f"{setting}['lease']", self.lease, f"at least {SHORTEST_LEASE} seconds; 15 is a good value"
            )
        if not self.sep:
            raise _wrong(f"{setting}['sep']", self.sep, "text, at least one character")


def _wrong(name: str, value: object, expected: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{name} must be {expected}; it is {value!r}.")


def _as_is(_: str, value: Any) -> Any:
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(name, value, "text")
    return value


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise _wrong(name, value, "a number of seconds above 0")
    return float(value)


def _yes_or_no(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, value, "True or False")
    return value


def _whole_numbers(name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not all(type(one) is int for one in value):
        raise _wrong(name, value, "a list of whole numbers")
    return tuple(value)


#: by the type of the field, as it is written above
_READERS = {
    "str": _text,
    "str | None": _text,
    "float": _seconds,
    "bool": _yes_or_no,
    "tuple[int, ...]": _whole_numbers,
}
