"""From a URL to unconnected connections: redis://, rediss://, redis+socket:// and sentinel://.

A URL and options come in; `Address.connection()` makes redis-py connection objects that retry nothing by
themselves, because a script that may have run must not be sent again by someone who does not know. What is
wrong with a URL is said here, without its password.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.utils.module_loading import import_string
from redis.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.credentials import CredentialProvider
from redis.sentinel import Sentinel

from djqueue.core.broker_defaults import EMPTY
from djqueue.exceptions import ImproperlyConfigured
from djqueue.messaging.transports.redis.options import Options
from djqueue.messaging.urls import masked, scheme

SCHEMES = ("redis", "rediss", "redis+socket", "sentinel")
_PORTS = {"redis": 6379, "rediss": 6379, "sentinel": 26379}
#: how Celery's users write what redis-py calls required, optional and none
_CERT_REQS = {"CERT_REQUIRED": "required", "CERT_OPTIONAL": "optional", "CERT_NONE": "none"}
#: what may stand behind the question mark, besides `ssl_…`
_QUERY = ("db", "virtual_host", "username", "password", "client_name", "credential_provider")

#: what says where a server is, and as whom one enters it
_WAY_IN = ("host", "port", "path", "username", "password")


class Address:
    """Where a Redis is and how to get in. Makes connections; opens none.

    `defaults` are what the URL leaves open: user and password; if it names no host, also host, port and db.
    """

    def __init__(self, url: str, options: Options, defaults: Mapping[str, Any] = EMPTY) -> None:
        self.url = url
        self._defaults = defaults
        name = scheme(url)
        if name not in SCHEMES:
            raise _wrong(url, f"its scheme is {name!r}; known are {', '.join(SCHEMES)}")
        #: what all connections have in common, as redis-py calls it
        self._arguments: dict[str, Any] = {
            "protocol": 2,
            "retry": None,
            "socket_timeout": options.socket_timeout,
            "socket_connect_timeout": options.socket_connect_timeout,
            "client_name": options.client_name,
            **{name: value for name, value in defaults.items() if name in ("username", "password")},
        }
        if name == "redis+socket":
            places = [self._read_socket(url)]
        else:
            places = [self._read_host(url, part) for part in url.split(";")]
            self._arguments |= {
                "socket_keepalive": options.socket_keepalive,
                "socket_keepalive_options": dict(options.socket_keepalive_options or {}) or None,
            }
        if len(places) > 1 and name != "sentinel":
            raise _wrong(url, "only sentinel:// takes several servers, separated by semicolons")
        if options.credential_provider or "credential_provider" in self._arguments:
            self._give_provider(options.credential_provider or self._arguments["credential_provider"])
        self.db = int(self._arguments.get("db", 0))
        secured = ({"ssl": True} if options.ssl or name == "rediss" else {}) | tls(options.ssl)
        self._kind: Callable[..., AbstractConnection]
        if name == "sentinel":
            # The pool gives out none: it refuses after a number of connections, closed ones among them.
            self._pool = self._ask_sentinels(places, options, secured)
            self._kind, self._arguments = self._pool.connection_class, self._pool.connection_kwargs
        else:
            self._kind = SSLConnection if secured.pop("ssl", False) else Connection
            if name == "redis+socket":
                self._kind = UnixDomainSocketConnection
            self._arguments |= {**places[0], **secured}

    def is_on_server_of(self, other: Address) -> bool:
        """Return whether both are surely one server, whatever the database, and enter it as the same user.

        Behind Sentinels and credential providers that is not known beforehand.
        """
        if not (
            self._kind is other._kind
            and self._kind in (Connection, SSLConnection, UnixDomainSocketConnection)
        ):
            return False
        if "credential_provider" in self._arguments or "credential_provider" in other._arguments:
            return False
        return all(self._arguments.get(name) == other._arguments.get(name) for name in _WAY_IN)

    def connection(self, *, answers_within: float | None = None) -> AbstractConnection:
        """Return a new connection, not yet open; `answers_within` replaces the usual `socket_timeout`."""
        made = self._kind(**self._arguments)
        if answers_within is not None:
            made.socket_timeout = answers_within
        return made

    def __repr__(self) -> str:
        return masked(self.url)

    def _read_socket(self, url: str) -> dict[str, Any]:
        parts = urlsplit(url)
        if not parts.path.strip("/"):
            raise _wrong(
                url, "it must name the socket, such as redis+socket:///run/redis.sock?virtual_host=0"
            )
        self._take(parts, url)
        return {"path": unquote(parts.path)}

    def _read_host(self, url: str, part: str) -> dict[str, Any]:
        try:
            parts = urlsplit(part if "://" in part else f"{scheme(url)}://{part}")
            port, rest = parts.port, f"{parts.path}{parts.query}{parts.fragment}"
        except ValueError:
            port, rest = None, "@"
        if "@" in rest:  # what looks like something else is a part of the password: nothing of it is shown
            raise ImproperlyConfigured(
                f"A URL {scheme(url)}://… cannot be read: its port is not a number, or its password holds "
                "characters such as / ? # that must be percent-encoded."
            )
        if (database := parts.path.strip("/")) and not database.isdecimal():
            raise _wrong(url, f"after the slash stands the number of a database, not {unquote(database)!r}")
        if database:
            self._arguments["db"] = int(database)
        self._take(parts, url)
        if parts.hostname:
            return {"host": unquote(parts.hostname), "port": port or _PORTS[parts.scheme]}
        defaults = self._defaults
        self._arguments.setdefault("db", defaults.get("db", 0))
        port = port or defaults.get("port") or _PORTS[parts.scheme]
        return {"host": defaults.get("host", "localhost"), "port": port}

    def _take(self, parts: Any, url: str) -> None:
        """Read what all kinds of URLs have in common: user, password and query."""
        if parts.username:
            self._arguments["username"] = unquote(parts.username)
        if parts.password:
            self._arguments["password"] = unquote(parts.password)
        for name, value in parse_qsl(parts.query):
            if name in ("db", "virtual_host"):
                if not value.strip("/").isdecimal():
                    raise _wrong(url, f"{name} is the number of a database, not {value!r}")
                self._arguments["db"] = int(value.strip("/"))
            elif name.startswith("ssl_"):
                if parts.scheme != "rediss":
                    raise _wrong(url, f"{name} has a meaning for rediss:// only")
                self._arguments[name] = _CERT_REQS.get(value, value)
            elif name in _QUERY:
                self._arguments[name] = value
            else:
                raise _wrong(url, f"{name!r} is not an option of Redis URLs")

    def _give_provider(self, given: Any) -> None:
        provider = import_string(given)() if isinstance(given, str) else given
        if not isinstance(provider, CredentialProvider):
            raise ImproperlyConfigured(
                f"credential_provider must be a redis.CredentialProvider or its dotted path; it is {given!r}."
            )
        for name in ("username", "password"):
            self._arguments.pop(name, None)
        self._arguments["credential_provider"] = provider

    def _ask_sentinels(
        self, places: list[dict[str, Any]], options: Options, secured: Mapping[str, Any]
    ) -> ConnectionPool:
        if not options.master_name:
            raise _wrong(self.url, "sentinel:// needs 'master_name' in the transport options as well")
        timeouts = {"socket_timeout": 1.0, "socket_connect_timeout": 1.0}
        sentinel = Sentinel(
            [(place["host"], place["port"]) for place in places],
            min_other_sentinels=options.min_other_sentinels,
            # Never a server that nobody named: connections learn host and port from the sentinels.
            host="",
            port=0,
            sentinel_kwargs={**timeouts, **options.sentinel_kwargs},
            **self._arguments,
            **secured,
        )
        pool: ConnectionPool = sentinel.master_for(options.master_name).connection_pool
        return pool


def tls(given: bool | Mapping[str, Any]) -> dict[str, Any]:
    """Return what redis-py takes for TLS; names may lack its `ssl_`, as they do for other brokers."""
    named = dict(given) if isinstance(given, Mapping) else {}
    return {
        name if name.startswith("ssl_") else f"ssl_{name}": _CERT_REQS.get(
            str(getattr(value, "name", value)), value
        )
        for name, value in named.items()
    }


def _wrong(url: str, what: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"The Redis URL {masked(url)!r} cannot be used: {what}.")
