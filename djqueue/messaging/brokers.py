"""From settings to the broker and the router: one `Broker` per URL and process, one `Router` per TASK_ROUTES.

Transports are named by dotted path in one table and imported when their scheme is first asked for. kombu is
told of the database transport here, so that `kombu.Connection("django://default")` works wherever djqueue
does.
"""

from __future__ import annotations

from difflib import get_close_matches
from threading import Lock
from typing import Any

from django.utils.module_loading import import_string
from kombu.transport import TRANSPORT_ALIASES

from djqueue.conf import settings
from djqueue.core.routing import Router
from djqueue.exceptions import ImproperlyConfigured
from djqueue.messaging.clocks import LamportClock
from djqueue.messaging.contract import Broker
from djqueue.messaging.urls import masked, scheme

#: URL scheme → dotted path of the class.
SCHEMES = {
    "django": "djqueue.messaging.transports.database.broker.DatabaseBroker",
    "memory": "djqueue.messaging.transports.memory.MemoryBroker",
    "redis": "djqueue.messaging.transports.redis.broker.RedisBroker",
    "rediss": "djqueue.messaging.transports.redis.broker.RedisBroker",
    "redis+socket": "djqueue.messaging.transports.redis.broker.RedisBroker",
    "sentinel": "djqueue.messaging.transports.redis.broker.RedisBroker",
}

TRANSPORT_ALIASES.setdefault("django", "djqueue.messaging.transports.database.kombu_transport:Transport")

#: this process's logical clock, for remote control and events
clock = LamportClock()

_open: dict[str, Broker] = {}
_opening = Lock()
_routing: tuple[Any, str, Router] | None = None


def broker(url: str | None = None) -> Broker:
    """Return the broker of that URL (or scheme alone); of BROKER_URL when none is given.

    Raises:
        djqueue.exceptions.ImproperlyConfigured: there is no such broker.
    """
    url = url or settings.BROKER_URL
    known = _open.get(url)
    if known is None:
        with _opening:  # a memory broker made twice would be two brokers
            known = _open.get(url)
            if known is None:
                known = _open[url] = _broker_class(url)(url)
    return known


def router() -> Router:
    """Return the router for the settings in force."""
    global _routing
    routes, default = settings.TASK_ROUTES, settings.TASK_DEFAULT_QUEUE
    known = _routing
    if known is None or known[0] is not routes or known[1] != default:
        known = _routing = (routes, default, Router(routes, default))
    return known[2]


def reset() -> None:
    """Close every broker and forget it and the router; the next use opens it again."""
    global _routing
    _routing = None
    with _opening:
        while _open:
            _, known = _open.popitem()
            known.close()


def after_fork() -> None:
    """Tell every broker that this is a new process (called in the child)."""
    global _opening
    _opening = Lock()  # another thread of the parent may have held it
    for known in _open.values():
        known.after_fork()


def _broker_class(url: str) -> type[Broker]:
    name = scheme(url)
    path = SCHEMES.get(name)
    if path is None:
        near = get_close_matches(name, SCHEMES)
        meant = f"Did you mean {near[0]}://…? " if near else ""
        raise ImproperlyConfigured(
            f"BROKER_URL is {masked(url)!r}, and there is no broker for {name}://. {meant}"
            f"Supported are {', '.join(f'{known}://' for known in sorted(SCHEMES))}."
        )
    found: type[Broker] = import_string(path)
    return found
