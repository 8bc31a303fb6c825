"""Where RabbitMQ is and how to get in: amqp://, amqps:// and pyamqp://, one address or several.

A URL, BROKER_TRANSPORT_OPTIONS and the BROKER_… settings come in; open wires leave. With several addresses
each failed connection is followed by a try at the next, in the order of BROKER_FAILOVER_STRATEGY.
"""

# kombu is typed in part.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from socket import TCP_USER_TIMEOUT
from typing import Any

from django.utils.module_loading import import_string
from kombu.connection import failover_strategies
from kombu.utils.url import parse_url

from djqueue.conf import settings
from djqueue.exceptions import ImproperlyConfigured
from djqueue.messaging.transports.amqp import encryption
from djqueue.messaging.transports.amqp.wire import Unreachable, Wire, errors_of
from djqueue.messaging.urls import masked, scheme

SCHEMES = ("amqp", "amqps", "pyamqp")
_PORTS = {True: 5671, False: 5672}
#: options that py-amqp takes as they are
_PASSED_ON = (
    *("client_properties", "channel_max", "frame_max", "locale", "socket_settings", "login_response"),
    "authentication",
)
#: options of our own, and those with a meaning for control connections only, which kombu reads
_OURS = ("read_timeout", "write_timeout", "confirm_publish")
_KOMBUS = (
    *("max_retries", "interval_start", "interval_step", "interval_max", "errback", "on_blocked"),
    *("on_unblocked", "socket_timeout", "socket_connect_timeout", "native_delayed_delivery_prefix"),
)
#: how long to wait for an answer, and for bytes to be taken, seconds
ANSWERING = 5.0
#: milliseconds that bytes may stay unanswered by the other machine; py-amqp's second is less than a hiccup
_UNANSWERED = 20_000


class Server:
    """One RabbitMQ, or one cluster. Safe to use from several threads; opens connections, keeps none."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self.url = url
        _check(options)
        self._options = options
        self._addresses = [self._read(one) for one in _several(url)]
        self._turns = _turns(len(self._addresses))
        #: what kombu's connections need for TLS, or False
        self.ssl = encryption.of_all([one["ssl"] for one in self._addresses])
        #: how many addresses there are
        self.count = len(self._addresses)
        self._choosing = threading.Lock()
        self._current = 0  # which address to try first

    def connect(self, *, heartbeat: float = 0.0, within: float | None = None) -> Wire:
        """Return an open connection; tries every address once, until `within` seconds are over.

        Raises:
            Unreachable: there is no connection to be had.
            Refused: RabbitMQ does not know the user or the virtual host.
        """
        patience: float = settings.BROKER_CONNECTION_TIMEOUT
        until = time.monotonic() + (patience * self.count if within is None else within)
        tries = self.count
        while True:
            number = self._current
            left = until - time.monotonic()
            wire = self._wire(number, heartbeat, max(min(patience, left), 0.1))
            try:
                with errors_of(wire):
                    wire.connect()
                    wire.stream.patience = self._options.get("write_timeout") or ANSWERING
                return wire
            except Unreachable as error:
                self._switch(number)
                tries -= 1
                if tries <= 0 or time.monotonic() >= until:
                    advice = encryption.advice(error.__cause__, self._addresses[number]["ssl"])
                    if advice is not None:
                        raise Unreachable(f"{error}. {advice}") from error
                    raise

    def _wire(self, number: int, heartbeat: float, patience: float) -> Wire:
        given = {name: self._options[name] for name in _PASSED_ON if name in self._options}
        given["socket_settings"] = {TCP_USER_TIMEOUT: _UNANSWERED, **(given.get("socket_settings") or {})}
        return Wire(
            connect_timeout=patience,
            heartbeat=round(heartbeat),
            login_method=settings.BROKER_LOGIN_METHOD or "PLAIN",
            **self._addresses[number],
            **given,
        )

    def _switch(self, failed: int) -> None:
        """Let the next connection be to another address, unless somebody has seen to that."""
        with self._choosing:
            if self._current == failed:
                self._current = next(self._turns)

    def _read(self, url: str) -> dict[str, Any]:
        try:
            parts = parse_url(url)
        except ValueError:
            parts = None
        # What looks like something else is a part of the password: nothing of it is shown.
        if parts is None or "@" in (parts["virtual_host"] or ""):
            raise ImproperlyConfigured(
                f"A URL {scheme(url)}://… cannot be read: its port is not a number, or its password holds "
                "characters such as / ? # @ that must be percent-encoded."
            )
        ssl = settings.BROKER_USE_SSL or parts.get("ssl") or scheme(url) == "amqps"
        host = parts["hostname"] or "localhost"
        return {
            "host": f"{host}:{parts['port'] or _PORTS[bool(ssl)]}",
            "userid": parts["userid"] or "guest",
            "password": parts["password"] or "guest",
            "virtual_host": parts["virtual_host"] or "/",
            "ssl": encryption.options(ssl, host) if ssl else False,
        }

    def __repr__(self) -> str:
        return ";".join(map(masked, _several(self.url)))


def _several(url: str) -> list[str]:
    """Return the addresses of a URL; those that follow the first may leave out what it says."""
    first, *others = url.split(";")
    before, _, rest = first.partition("://")
    user, at, place = rest.rpartition("@")
    _, slash, vhost = place.partition("/")
    return [
        first,
        *(
            one
            if "://" in one
            else f"{before}://{'' if '@' in one else user + at}{one}{'' if '/' in one else slash + vhost}"
            for one in others
        ),
    ]


def _turns(count: int) -> Iterator[int]:
    """Yield for ever which address comes next."""
    given = settings.BROKER_FAILOVER_STRATEGY
    known = failover_strategies.get(given)
    strategy = known or (import_string(given) if isinstance(given, str) else given)
    turns: Iterator[int] = strategy([*range(count)])
    if known is not None and given == "round-robin":
        next(turns)  # the first is tried without being asked for
    return turns


def _check(options: Mapping[str, Any]) -> None:
    known = (*_PASSED_ON, *_OURS, *_KOMBUS)
    for name in options:
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            raise ImproperlyConfigured(
                f"BROKER_TRANSPORT_OPTIONS[{name!r}] is not an option of RabbitMQ.{meant}"
            )
    if not options.get("confirm_publish", True):
        raise ImproperlyConfigured(
            "BROKER_TRANSPORT_OPTIONS['confirm_publish'] is False, but djqueue always has messages "
            "confirmed: without that RabbitMQ may lose what it was sent. Leave the option out."
        )
