"""From settings to brokers, queues and router: one `Broker` per URL and process, the others one each.

Transports are named by dotted path in one table and imported when their scheme is first asked for. kombu is
told of our own transports here, so that `kombu.Connection("django://default")` works wherever djqueue does.
"""

from __future__ import annotations

from difflib import get_close_matches
from operator import attrgetter
from threading import Lock
from typing import Any

from django.utils.module_loading import import_string
from kombu.transport import TRANSPORT_ALIASES

from djqueue.conf import settings
from djqueue.core.routing import Router
from djqueue.exceptions import ImproperlyConfigured
from djqueue.messaging.clocks import LamportClock
from djqueue.messaging.contract import Broker
from djqueue.messaging.queues import MADE_OF, Queues
from djqueue.messaging.transports.generic.traits import transport_of
from djqueue.messaging.urls import masked, scheme

#: URL scheme → dotted path of the class.
SCHEMES = {
    "amqp": "djqueue.messaging.transports.amqp.broker.AmqpBroker",
    "amqps": "djqueue.messaging.transports.amqp.broker.AmqpBroker",
    "pyamqp": "djqueue.messaging.transports.amqp.broker.AmqpBroker",
    "django": "djqueue.messaging.transports.database.broker.DatabaseBroker",
    "memory": "djqueue.messaging.transports.memory.MemoryBroker",
    "redis": "djqueue.messaging.transports.redis.broker.RedisBroker",
    "rediss": "djqueue.messaging.transports.redis.broker.RedisBroker",
    "redis+socket": "djqueue.messaging.transports.redis.broker.RedisBroker",
    "sentinel": "djqueue.messaging.transports.redis.broker.RedisBroker",
}

#: the class for everything else that kombu has a transport for
GENERIC = "djqueue.messaging.transports.generic.broker.GenericBroker"

TRANSPORT_ALIASES["etcd"] = "djqueue.messaging.transports.generic.etcd:Transport"
TRANSPORT_ALIASES["filesystem"] = "djqueue.messaging.transports.generic.files:Transport"
TRANSPORT_ALIASES.setdefault("django", "djqueue.messaging.transports.database.kombu_transport:Transport")

#: this process's logical clock, for remote control and events
clock = LamportClock()

_what_queues_are_made_of = attrgetter(*MADE_OF)

_open: dict[str, Broker] = {}
_opening = Lock()
# each with the revision of the settings (-1: not to be relied on) and what it was made of
_queues: tuple[int, tuple[Any, ...], Queues] | None = None
_routing: tuple[int, tuple[Any, Queues], Router] | None = None


def broker(url: str | None = None) -> Broker:
    """Return the broker of that URL (or scheme alone); when none is given, the one that messages are sent to.

    Raises:
        djqueue.exceptions.ImproperlyConfigured: there is no such broker.
    """
    url = url or settings.BROKER_WRITE_URL or settings.BROKER_URL
    known = _open.get(url)
    if known is None:
        with _opening:  # a memory broker made twice would be two brokers
            known = _open.get(url)
            if known is None:
                known = _open[url] = _broker_class(url)(url)
    return known


def broker_to_read() -> Broker:
    """Return the broker that workers receive from; raises as `broker` does."""
    return broker(settings.BROKER_READ_URL or settings.BROKER_URL)


def queues() -> Queues:
    """Return the queues for the settings in force; those added at run time stay while these settings do."""
    global _queues
    known, revision = _queues, settings.revision
    if known is not None and known[0] == revision:
        return known[2]
    made_of = _what_queues_are_made_of(settings)
    made = known[2] if known is not None and known[1] == made_of else Queues()
    _queues = (revision if settings.may_be_kept else -1, made_of, made)
    return made


def router() -> Router:
    """Return the router for the settings in force."""
    global _routing
    known, revision = _routing, settings.revision
    if known is not None and known[0] == revision:
        return known[2]
    made_of = (settings.TASK_ROUTES, queues())
    if known is not None and known[1][0] is made_of[0] and known[1][1] is made_of[1]:
        made = known[2]
    else:
        made = Router(made_of[0], settings.TASK_DEFAULT_QUEUE, made_of[1].address)
    _routing = (revision if settings.may_be_kept else -1, made_of, made)
    return made


def reset() -> None:
    """Close every broker and forget it, the queues and the router; the next use makes them again."""
    global _queues, _routing
    _queues = _routing = None
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
    if path is None and transport_of(url):
        path = GENERIC
    if path is None:
        near = get_close_matches(name, {*SCHEMES, *TRANSPORT_ALIASES})
        meant = f"Did you mean {near[0]}://…? " if near else ""
        raise ImproperlyConfigured(
            f"BROKER_URL is {masked(url)!r}, and there is no broker for {name}://. {meant}"
            f"Supported are {', '.join(f'{known}://' for known in sorted({*SCHEMES, *TRANSPORT_ALIASES}))}."
        )
    found: type[Broker] = import_string(path)
    return found
