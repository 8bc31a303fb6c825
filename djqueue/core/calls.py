"""What was asked for: a `Call` of a task, and the `Plan` with everything that does not change per call.

A task makes its plan once and a call for each `delay` or `apply_async`; the publisher routes the call and the
protocol encodes it. `asked` turns the options users give to `apply_async` into a call and refuses those that
do not exist.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from djqueue.conf import settings
from djqueue.core import moments
from djqueue.core.names import new_id
from djqueue.core.requests import task_request
from djqueue.core.retrying import ONCE, PublishPolicy

#: Headers of the protocol, in its order; `headers=` may not replace them.
PROTOCOL_HEADERS = (
    *("lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries", "timelimit"),
    *("root_id", "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result", "replaced_task_nesting"),
    *("stamped_headers", "stamps"),
)
_RESERVED = frozenset({*PROTOCOL_HEADERS, "compression"})
#: Ids and names are kept in columns of this length.
LONGEST_NAME = 255


@dataclass(slots=True, frozen=True)
class Plan:
    """What every call of one task has in common. None leaves the choice to the route or the settings.

    `expires` is in seconds from the call, `repr_limit` in characters.
    """

    name: str
    serializer: str | None = None
    compression: str | None = None
    priority: int | None = None
    queue: str | None = None
    exchange: str | None = None
    routing_key: str | None = None
    delivery_mode: int | str | None = None
    expires: float | timedelta | datetime | None = None
    ignore_result: bool | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    repr_limit: int = 1024

    @classmethod
    def for_name(cls, name: str) -> Plan:
        """Return the plan of a task of which only the name is known."""
        return cls(name)


@dataclass(slots=True)
class Call:
    """One call of a task.

    `eta` and `expires` are ISO text. `timelimit` is (hard, soft) in seconds, None for the plan's. Signatures
    in `callbacks`, `errbacks`, `chain` (the last is the next) and `chord` are dictionaries in wire form.
    `queue` and `exchange` are names or kombu's entities. What is None is taken from the plan, then from the
    route, then from the settings.
    """

    plan: Plan
    id: str = field(default_factory=new_id)
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    eta: str | None = None
    expires: str | None = None
    retries: int = 0
    group: str | None = None
    group_index: int | None = None
    root_id: str | None = None
    parent_id: str | None = None
    shadow: str | None = None
    ignore_result: bool | None = None
    timelimit: tuple[float | None, float | None] | None = None
    reply_to: str | None = None
    callbacks: list[Any] | None = None
    errbacks: list[Any] | None = None
    chain: list[Any] | None = None
    chord: Any = None
    headers: Mapping[str, Any] | None = None
    stamped_headers: list[str] | None = None
    stamps: Mapping[str, Any] | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    replaced_task_nesting: int = 0
    serializer: str | None = None
    compression: str | None = None
    priority: int | None = None
    delivery_mode: int | str | None = None
    queue: Any = None
    exchange: Any = None
    routing_key: str | None = None
    task_protocol: int | None = None
    properties: Mapping[str, Any] | None = None
    retry: bool | None = None
    retry_policy: Mapping[str, Any] | None = None

    @property
    def due(self) -> float | None:
        """The moment the task may run, in seconds since the epoch; None: at once."""
        return moments.epoch(self.eta) if self.eta else None

    @property
    def publish_policy(self) -> PublishPolicy:
        """How often sending is tried again: the call's policy over that of the settings."""
        if not (settings.TASK_PUBLISH_RETRY if self.retry is None else self.retry):
            return ONCE
        return PublishPolicy.of({**settings.TASK_PUBLISH_RETRY_POLICY, **(self.retry_policy or {})})

    @property
    def ignores_result(self) -> bool:
        """Whether nobody wants the result: the call says so, or the task, or the settings."""
        value = self.plan.ignore_result if self.ignore_result is None else self.ignore_result
        return bool(settings.TASK_IGNORE_RESULT if value is None else value)


#: Options of `apply_async` that have the same name in `Call`.
_SAME = frozenset(
    {
        *("retries", "group_index", "root_id", "parent_id", "shadow", "ignore_result", "reply_to", "chain"),
        *(
            "chord",
            "argsrepr",
            "kwargsrepr",
            "replaced_task_nesting",
            "serializer",
            "compression",
            "priority",
        ),
        *("delivery_mode", "queue", "exchange", "routing_key", "task_protocol", "properties", "headers"),
        *("retry", "retry_policy"),
    }
)
_RENAMED = {"task_id": "id", "group_id": "group", "link": "callbacks", "link_error": "errbacks"}
_OTHERS = frozenset({"countdown", "eta", "expires", "time_limit", "soft_time_limit", "stamped_headers"})


def is_option(name: str) -> bool:
    """Return whether `apply_async` has an option of this name."""
    return name in _SAME or name in _RENAMED or name in _OTHERS


def asked(plan: Plan, args: Any, kwargs: Any, options: Mapping[str, Any]) -> Call:
    """Return the call that these options of `apply_async` ask for; root and parent are the running task's.

    Raises:
        TypeError: an option does not exist, or args, kwargs or an option are of the wrong type.
        ValueError: an option has an impossible value.
    """
    args, kwargs = args or (), kwargs or {}
    if not isinstance(args, list | tuple):
        raise TypeError(f"The args of {plan.name} must be a list or tuple; they are {args!r}.")
    if not isinstance(kwargs, Mapping):
        raise TypeError(f"The kwargs of {plan.name} must be a mapping; they are {kwargs!r}.")
    for key in kwargs:
        if not isinstance(key, str):
            raise TypeError(f"The names of {plan.name}'s kwargs must be text; one is {key!r}.")
    call = Call(plan, "", args, kwargs)
    if options:
        _apply(call, options)
    call.id = call.id or new_id()
    if call.expires is None and plan.expires is not None and "expires" not in options:
        call.expires = expiry(plan.expires)
    _inherit(call)
    return call


def expiry(expires: Any) -> str | None:
    """Return the option `expires` (seconds, timedelta, datetime or text) as the wire has it."""
    if isinstance(expires, int | float | timedelta):
        expires = moments.after(expires, "expires")
    return moments.written(expires, "expires")


def _apply(call: Call, options: Mapping[str, Any]) -> None:
    stamped = options.get("stamped_headers")
    if stamped is not None:
        stamped = sorted(stamped) if isinstance(stamped, set | frozenset) else list(stamped)
    stamps = {name: options[name] for name in stamped or ()}
    for name, value in options.items():
        if name in _SAME:
            setattr(call, name, value)
        elif name in _RENAMED:
            setattr(call, _RENAMED[name], _listed(value) if name.startswith("link") else value)
        elif name not in _OTHERS and name not in stamps:
            raise TypeError(_unknown_option(name))
    call.eta = moments.written(options.get("eta"), "eta")
    if options.get("countdown"):
        call.eta = moments.written(moments.after(options["countdown"], "countdown"), "eta")
    call.expires = expiry(options.get("expires"))
    if "time_limit" in options or "soft_time_limit" in options:
        plan = call.plan
        call.timelimit = (
            options.get("time_limit", plan.time_limit),
            options.get("soft_time_limit", plan.soft_time_limit),
        )
    if stamped is not None:
        call.stamped_headers, call.stamps = stamped, stamps
    _check(call)


def _check(call: Call) -> None:
    for name in ("queue", "exchange"):
        value = getattr(call, name)
        if value is not None and not isinstance(getattr(value, "name", value), str):
            raise TypeError(f"{name} must be a name, or kombu's {name.title()}; it is {value!r:.80}.")
    call_id: Any = call.id
    if call_id and not (isinstance(call_id, str) and len(call_id) <= LONGEST_NAME and "\0" not in call_id):
        raise ValueError(f"task_id must be text of at most {LONGEST_NAME} characters; it is {call_id!r:.80}.")
    if call.priority is not None and (type(call.priority) is not int or not 0 <= call.priority <= 255):
        raise ValueError(f"priority must be a whole number from 0 to 255; it is {call.priority!r}.")
    if call.headers is not None and not isinstance(call.headers, Mapping):
        raise TypeError(f"headers must be a mapping; it is {call.headers!r}.")
    if "expiration" in (call.properties or ()):
        raise ValueError(
            "properties may not set expiration: brokers drop such messages unseen. Give expires=."
        )
    if call.retry_policy is not None:
        try:
            PublishPolicy.of(call.retry_policy)
        except (ValueError, AttributeError) as exc:
            raise ValueError(f"retry_policy {exc}; it is {call.retry_policy!r}.") from None
    taken = _RESERVED.intersection(call.headers or ())
    if taken:
        names = ", ".join(sorted(taken))
        raise ValueError(f"headers= may not set {names}: the message protocol does. Choose another name.")


def _inherit(call: Call) -> None:
    parent = task_request()
    if parent is None or not parent.id:
        return
    if not call.root_id:
        call.root_id = parent.root_id or parent.id
    if not call.parent_id:
        call.parent_id = parent.id
    if call.priority is None and settings.TASK_INHERIT_PARENT_PRIORITY:
        call.priority = (parent.delivery_info or {}).get("priority")


def _listed(value: Any) -> list[Any] | None:
    if value is None:
        return None
    return list(value) if isinstance(value, list | tuple) else [value]


def _unknown_option(name: str) -> str:
    near = difflib.get_close_matches(name, {*_SAME, *_RENAMED, *_OTHERS}, n=1)
    meant = f" Did you mean {near[0]!r}?" if near else " A stamp must be listed in stamped_headers."
    return f"{name!r} is not an option of a call.{meant}"
