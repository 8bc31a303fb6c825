"""Where a call goes: TASK_ROUTES and what the call and the task say, made into a `Destination`.

The publisher asks `place(call)`. What the call says wins over what its task says, that over the route, and
that over the settings; a route may name any option of a message, not only a queue.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.utils.module_loading import import_string

from djqueue.core.calls import Call, expiry
from djqueue.core.messages import Address, Destination

Options = dict[str, Any]
Route = Callable[..., Any]

#: What a route may say about a call besides its place, as fields of `Call`.
_MAY_SET = ("priority", "serializer", "compression", "delivery_mode")
_PLACE = ("queue", "exchange", "routing_key")


def straight(queue: Any) -> Address:
    """Return the address of a queue of which nothing is declared: a direct exchange of the same name."""
    name = getattr(queue, "name", queue)
    return Address(name, name, "direct", name)


class Router:
    """Routes calls. Built once from TASK_ROUTES and the name of the default queue.

    `address` returns where messages for a queue go, which is named or kombu's `Queue`; a name that it does
    not know it may refuse.
    """

    def __init__(
        self, routes: Any = None, default_queue: str = "default", address: Callable[[Any], Address] = straight
    ) -> None:
        self.default_queue = default_queue
        self._address = address
        self._routes = [_route(one) for one in _listed(routes)]

    def place(self, call: Call) -> Destination:
        """Return where the call goes; options that the route gives are filled in where nothing was said."""
        plan = call.plan
        route = self.lookup(plan.name, call.args, call.kwargs, _said(call)) if self._routes else None
        if route:
            _fill_in(call, route)
        elif call.exchange is call.routing_key is plan.exchange is plan.routing_key is None:
            address = self._address(call.queue or plan.queue or self.default_queue)
            if address.delivery_mode is not None:
                _keep_as(address, call)
            return address.usual
        return self._destination({**(route or {}), **_said(call)}, call)

    def destination(
        self, name: str, options: Mapping[str, Any] | None = None, args: Any = (), kwargs: Any = None
    ) -> Destination:
        """Return where a task of this name goes, when it is sent with `options`."""
        said = {key: value for key, value in (options or {}).items() if value is not None}
        return self._destination({**(self.lookup(name, args, kwargs, said) or {}), **said})

    def lookup(
        self, name: str, args: Any = (), kwargs: Any = None, options: Options | None = None
    ) -> Options | None:
        """Return the options that the first answering route gives, or None."""
        for route in self._routes:
            answer = route(name, args or (), kwargs or {}, options or {})
            if answer is not None:
                return _options(answer, name)
        return None

    def _destination(self, options: Mapping[str, Any], call: Call | None = None) -> Destination:
        """Return the place that the options describe: as far as they do not, the queue says it."""
        queue, routing_key = options.get("queue"), options.get("routing_key")
        exchange = getattr(options.get("exchange"), "name", options.get("exchange"))
        if queue is None and exchange and routing_key:
            return Destination(exchange, routing_key)
        address = self._address(queue or self.default_queue)
        if call is not None:
            _keep_as(address, call)
        return address.destination(exchange, routing_key)


def topic_matches(pattern: str, routing_key: str) -> bool:
    """Return whether a topic's words fit: `*` stands for one word, `#` for any number of them."""
    words = routing_key.split(".")
    #: how many words the parts so far can stand for
    ends = {0}
    for part in pattern.split("."):
        if part == "#":
            ends = set(range(min(ends, default=len(words) + 1), len(words) + 1))
        else:
            ends = {n + 1 for n in ends if n < len(words) and part in ("*", words[n])}
    return len(words) in ends


class _Map:
    """The dictionary form of a route: exact names first, then patterns in their order."""

    def __init__(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        self._exact: dict[str, Any] = {}
        self._patterns: list[tuple[re.Pattern[str], Any]] = []
        self._known: dict[str, Any] = {}
        for key, options in pairs:
            if isinstance(key, re.Pattern):
                self._patterns.append((key, options))
            elif "*" in key:
                self._patterns.append((re.compile(fnmatch.translate(key)), options))
            else:
                self._exact[key] = options

    def __call__(self, name: str, *_: Any) -> Any:
        if name in self._exact:
            return self._exact[name]
        if not self._patterns:
            return None
        if name not in self._known:
            answer = next((options for pattern, options in self._patterns if pattern.match(name)), None)
            if len(self._known) >= 1000:
                return answer
            self._known[name] = answer
        return self._known[name]


class _Function:
    """A route that is a function, or an object with `route_for_task`, or the dotted path of one."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self._resolved: Any = None

    def __call__(self, name: str, args: Any, kwargs: Any, options: Options) -> Any:
        function = self._resolved
        if function is None:
            function = import_string(self._target) if isinstance(self._target, str) else self._target
            if hasattr(function, "route_for_task") and isinstance(function, type):
                function = function()
            self._resolved = function
        if hasattr(function, "route_for_task"):
            return function.route_for_task(name, args, kwargs)
        return function(name, args, kwargs, options, task=None)


def _listed(routes: Any) -> list[Any]:
    if routes is None:
        return []
    if isinstance(routes, list | tuple) and not _is_pairs(routes):
        return list(routes)
    return [routes]


def _is_pairs(value: Any) -> bool:
    """Tell a list of (pattern, options) from a list of routes."""
    return bool(value) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str | re.Pattern)
        for pair in value
    )


def _route(one: Any) -> Route:
    if isinstance(one, Mapping):
        return _Map(one.items())
    if isinstance(one, list | tuple):
        return _Map(one)
    return _Function(one)


def _options(answer: Any, name: str) -> Options:
    if isinstance(answer, str) or hasattr(answer, "routing_key"):  # a queue's name, or kombu's Queue
        return {"queue": answer}
    if isinstance(answer, Mapping):
        return dict(answer)
    raise TypeError(
        f"A route answered {answer!r} for {name}; it must be a dict of options, a queue's name or None."
    )


def _fill_in(call: Call, route: Options) -> None:
    """Take from the route what neither the call nor its task says."""
    for name in _MAY_SET:
        if route.get(name) is not None and getattr(call, name) is None and getattr(call.plan, name) is None:
            setattr(call, name, route[name])
    if route.get("expires") is not None and call.expires is None:
        call.expires = expiry(route["expires"])


def _keep_as(address: Address, call: Call) -> None:
    """Let the queue's exchange say whether messages go to disk, unless the call or its task does."""
    if call.delivery_mode is None and call.plan.delivery_mode is None:
        call.delivery_mode = address.delivery_mode


def _said(call: Call) -> Options:
    """Return what the call, and else its task, says about its place."""
    plan = call.plan
    found = {}
    for name in (*_PLACE, *_MAY_SET):
        value = getattr(call, name)
        if value is None:
            value = getattr(plan, name)
        if value is not None:
            found[name] = value
    return found
