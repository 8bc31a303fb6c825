"""Where results are kept in MongoDB: the address and MONGODB_BACKEND_SETTINGS, read as Celery reads them.

An address comes in; a `Place` leaves, with everything that PyMongo's client is told. What the settings say
counts more than what the address says. No name is looked up here, and nothing is connected to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from pymongo.errors import ConfigurationError
from pymongo.uri_parser import parse_uri, split_options

from djqueue.conf import settings
from djqueue.exceptions import ImproperlyConfigured

NAME = "MONGODB_BACKEND_SETTINGS"
SCHEMES = ("mongodb://", "mongodb+srv://")
PORT = 27017
#: seconds that any call may take, if no option says otherwise
PATIENCE = 10.0
#: options of the client that hold where nothing else is said
DEFAULTS = {"maxPoolSize": 10, "serverSelectionTimeoutMS": 5_000, "connectTimeoutMS": 5_000}
#: whoever sets one of these says himself how long a request may take
LIMITS = {"timeoutms", "sockettimeoutms"}
_TEXTS = ("user", "password", "database", "taskmeta_collection", "groupmeta_collection")
_KEYS = ("host", "port", *_TEXTS, "max_pool_size", "options")
#: options that only addresses with a name to look up may have
_FOR_NAMES = ("srvservicename", "srvmaxhosts", "srvallowedhostssuffix")
#: options that would make the client another one than the store needs
_REFUSED = {
    "connect": "connections are made when they are first needed, by each process its own",
    "document_class": "the store reads plain dictionaries",
    "type_registry": "the store reads plain dictionaries",
}


@dataclass(frozen=True)
class Place:
    """A database and two collections, and what PyMongo's client is told to get there."""

    arguments: Mapping[str, Any]
    #: the address without user, password and options
    shown: str
    database: str
    tasks: str
    groups: str
    #: seconds that a call may take in all; None: as the options of the client say
    patience: float | None


def place_of(url: str) -> Place:
    """Return where results are kept by that address and the settings.

    Raises:
        ImproperlyConfigured: one of them is wrong.
    """
    told = _settings()
    address, query, found = _read_url(url)
    port = told.get("port", PORT)
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65_536:
        raise _wrong("port", port, "a number from 1 to 65535")
    hosts = [f"{address}?{query}" if query else address]
    if "host" in told or "port" in told:
        hosts = _read_host(told.get("host", "localhost"), query)
    given = set().union(*(_names(one.partition("?")[2]) for one in hosts))
    arguments = _options(told, given)
    arguments |= {"host": hosts, "port": port, "connect": False}
    for ours, theirs in (("user", "username"), ("password", "password")):
        if value := told.get(ours) or found.get(theirs):
            arguments[theirs] = value
    if "password" in arguments and "username" not in arguments:
        raise ImproperlyConfigured(f"{NAME} has a password and no user: give 'user', too, or neither.")
    named = given | {name.lower() for name in arguments}
    database = told.get("database") or found.get("database") or "celery"
    return Place(
        arguments,
        _shown(hosts, database),
        database,
        told.get("taskmeta_collection") or "celery_taskmeta",
        told.get("groupmeta_collection") or "celery_groupmeta",
        None if LIMITS & named else PATIENCE,
    )


def _settings() -> dict[str, Any]:
    told = dict(settings.MONGODB_BACKEND_SETTINGS)
    for key in _TEXTS:
        if told.get(key) is not None and not isinstance(told[key], str):
            # Not the value: it may be a password.
            raise ImproperlyConfigured(f"{NAME}[{key!r}] must be text; it is {type(told[key]).__name__}.")
    return told


def _read_url(url: str) -> tuple[str, str, dict[str, Any]]:
    """Return the address of the hosts alone, the options as they stand in it, and what else it tells.

    The client gets neither user nor database with its hosts: as with Celery, users are looked for in `admin`
    unless `authSource` says otherwise, not where results are.
    """
    scheme, _, rest = url.partition("://")
    if not rest:
        rest = "localhost"
    found = _checked(f"{scheme}://{rest}", "RESULT_BACKEND")
    if found["collection"]:
        raise ImproperlyConfigured(
            f"RESULT_BACKEND names a collection after the database; {NAME} names collections, as "
            "'taskmeta_collection' and 'groupmeta_collection'."
        )
    before, _, query = rest.partition("?")
    hosts = before.partition("/")[0].rpartition("@")[2]
    return f"{scheme}://{hosts}/", query, found


def _read_host(host: Any, query: str) -> list[str]:
    """Return the hosts that the settings name, with the options that stand in RESULT_BACKEND."""
    hosts = [host] if isinstance(host, str) else host
    if not isinstance(hosts, list | tuple) or not hosts or not all(isinstance(one, str) for one in hosts):
        raise _wrong("host", type(host).__name__, "a name, an address 'mongodb://…', or a list of names")
    if not any("://" in one for one in hosts):
        query = _without_names(query)
        address = f"mongodb://{','.join(hosts)}/"
        return [f"{address}?{query}" if query else address]
    for one in hosts:
        _checked(one, f"{NAME}['host']")
    if query:
        raise ImproperlyConfigured(
            f"{NAME}['host'] is an address, which replaces that of RESULT_BACKEND; the options of that "
            "must stand in it, too, or in 'options'."
        )
    return list(hosts)


def _checked(url: str, setting: str) -> dict[str, Any]:
    """Return what PyMongo reads in the address, whose name is not looked up.

    Neither the address nor a part of it is told: it may be part of a password that is not escaped.
    """
    scheme, _, rest = url.partition("://")
    if f"{scheme}://" not in SCHEMES:
        raise ImproperlyConfigured(f"{setting} must begin with {' or '.join(SCHEMES)}.")
    before, _, query = rest.partition("?")
    whole = query
    if scheme != "mongodb":
        query = _without_names(query)
    try:
        if whole:
            split_options(whole)
        return parse_uri(f"mongodb://{before}" + (f"?{query}" if query else ""))
    except (ConfigurationError, ValueError, TypeError) as error:
        raise ImproperlyConfigured(
            f"{setting} is no address of a MongoDB, such as 'mongodb://user:password@host:27017/database': "
            f"{error}"
        ) from None


def _options(told: Mapping[str, Any], given: set[str]) -> dict[str, Any]:
    """Return the options of the client: Celery lets them stand beside the other settings, too."""
    nested = told.get("options") or {}
    if not isinstance(nested, Mapping):
        raise _wrong("options", type(nested).__name__, "a dict of options of PyMongo's MongoClient")
    options = {**nested, **{name: value for name, value in told.items() if name not in _KEYS}}
    for name in options:
        if why := _REFUSED.get(str(name).lower()):
            raise ImproperlyConfigured(f"{NAME} has the option {name!r}, which must not be set: {why}.")
    if "max_pool_size" in told:
        options["maxPoolSize"] = told["max_pool_size"]
    named = given | {str(name).lower() for name in options}
    return {name: value for name, value in DEFAULTS.items() if name.lower() not in named} | options


def _without_names(query: str) -> str:
    """Return the options without those that are about looking up a name."""
    return "&".join(one for one in query.split("&") if one.partition("=")[0].lower() not in _FOR_NAMES)


def _names(query: str) -> set[str]:
    return {name.lower() for name, _ in parse_qsl(query, keep_blank_values=True)}


def _shown(hosts: list[str], database: str) -> str:
    """Return an address that may stand in logs."""
    scheme = "mongodb+srv" if hosts[0].startswith("mongodb+srv://") else "mongodb"
    names = [one.rpartition("://")[2].partition("?")[0].partition("/")[0].rpartition("@")[2] for one in hosts]
    return f"{scheme}://{','.join(names)}/{database}"


def _wrong(key: str, value: Any, wanted: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{NAME}[{key!r}] must be {wanted}; it is {value!r}.")
