"""From a setting to the store that keeps results: alias, URL or dotted path in, `ResultBackend` out.

Workers and handles ask for `backend()`; one instance per address lives as long as the process. Stores
outside this package are imported only when they are named. Without a store a `DisabledBackend` takes
results and drops them, and says how to get one as soon as somebody wants to read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Any, NoReturn, Protocol

from django.apps import apps
from django.utils.module_loading import import_string

from djqueue.conf import settings
from djqueue.exceptions import ImproperlyConfigured
from djqueue.messaging.urls import masked
from djqueue.result.contract import ResultBackend
from djqueue.result.documents import Document

#: Alias or URL scheme → dotted path of the class.
ALIASES = {
    "django-db": "djqueue_results.backends.database.DatabaseBackend",
    "disabled": "djqueue.result.backends.DisabledBackend",
    "django-cache": "djqueue_results.backends.caches.django_cache.DjangoCacheBackend",
    "cache+memory": "djqueue_results.backends.caches.memory.MemoryBackend",
    **dict.fromkeys(
        # Celery's names, all of which mean pymemcache today.
        ("cache+memcached", "cache+memcache", "cache+pymemcache", "cache+pylibmc"),
        "djqueue_results.backends.caches.memcached.MemcachedBackend",
    ),
    "azureblockblob": "djqueue_results.backends.keyvalue.azure.AzureBlockBlobBackend",
    "s3": "djqueue_results.backends.keyvalue.s3.S3Backend",
    "dynamodb": "djqueue_results.backends.keyvalue.dynamodb.DynamoBackend",
    "gs": "djqueue_results.backends.keyvalue.google_storage.GoogleStorageBackend",
    **dict.fromkeys(("mongodb", "mongodb+srv"), "djqueue_results.backends.mongodb.store.MongoBackend"),
    "file": "djqueue_results.backends.keyvalue.files.FileBackend",
    **dict.fromkeys(("database", "db+"), "djqueue_results.backends.sql.store.SqlBackend"),
    "rpc": "djqueue_results.backends.rpc.RpcBackend",
    "redis": "djqueue_results.backends.redis.RedisBackend",
    "rediss": "djqueue_results.backends.redis.RedisBackend",
    "redis+socket": "djqueue_results.backends.redis.RedisBackend",
    "sentinel": "djqueue_results.backends.redis.RedisBackend",
}

#: the group of entry points by which other packages add stores: scheme → class
ENTRY_POINTS = "djqueue.result_backends"
#: schemes of the stores that Celery has besides
ABSENT = frozenset(
    {
        *("arangodb", "cassandra", "consul", "cosmosdbsql", "couchbase", "couchdb"),
        *("elasticsearch", "riak"),
    }
)

_open: dict[str, ResultBackend] = {}


class ResultsDisabled(ImproperlyConfigured, NotImplementedError):
    """No result store is configured, so states and results cannot be read."""


class DisabledBackend(ResultBackend):
    """Keeps nothing: storing does nothing, reading raises with the fix."""

    keeps = False
    expires_by_itself = True

    def store_many(self, documents: Sequence[Document]) -> None:
        """Drop the documents."""

    def fetch_many(self, task_ids: Sequence[str]) -> Mapping[str, Document]:
        """Say that there is nothing to read, and how to change that."""
        self._refuse()

    def forget_many(self, task_ids: Sequence[str]) -> None:
        """Do nothing: nothing was kept."""

    def clean_up(self) -> int:
        """Return 0: nothing was kept."""
        return 0

    def wait(self, task_id: str, timeout: float | None, interval: float | None = None) -> Document | None:
        """Say that there is nothing to wait for, and how to change that."""
        self._refuse()

    def check_chords(self) -> None:
        """Say that chords need a store, and how to get one."""
        self._refuse()

    def save_group(self, group_id: str, members: Any) -> None:
        """Say that nothing is kept, and how to change that."""
        self._refuse()

    def restore_group(self, group_id: str) -> Any:
        """Say that there is nothing to read, and how to change that."""
        self._refuse()

    def delete_group(self, group_id: str) -> None:
        """Do nothing: nothing was kept."""

    def as_uri(self) -> str:
        """Return the alias."""
        return "disabled"

    def _refuse(self) -> NoReturn:
        raise ResultsDisabled(
            "Results are not kept, so the state and result of a task cannot be read. Add 'djqueue_results' "
            "to INSTALLED_APPS and run migrate, or set DJQUEUE['RESULT_BACKEND'] to another store."
        )


def backend(address: str | None = None) -> ResultBackend:
    """Return the store of that alias, URL or dotted path; of RESULT_BACKEND when none is given.

    Raises:
        djqueue.exceptions.ImproperlyConfigured: there is no such store.
    """
    address = address or settings.RESULT_BACKEND or _default()
    known = _open.get(address)
    if known is None:
        # Two threads may both get here: the first instance that arrives is the one everybody uses.
        known = _open.setdefault(address, _backend_class(address)(address))
    return known


class KnownOtherwise(Protocol):
    """Something that stands for a store, as `app.backend` does."""

    @property
    def store(self) -> ResultBackend:
        """The store."""


Given = ResultBackend | KnownOtherwise | str | None


def meant_by(given: Given) -> ResultBackend:
    """Return the store that a caller means: itself, what stands for it, its address, or the usual one.

    Raises:
        djqueue.exceptions.ImproperlyConfigured: there is no such store.
    """
    if given is None or isinstance(given, str):
        return backend(given)
    return given if isinstance(given, ResultBackend) else given.store


def reset() -> None:
    """Close every store and forget it; the next use opens it again."""
    while _open:
        _, known = _open.popitem()
        known.close()


def after_fork() -> None:
    """Tell every store that this is a new process (called in the child)."""
    for known in _open.values():
        known.after_fork()


def _default() -> str:
    return "django-db" if apps.is_installed("djqueue_results") else "disabled"


def _backend_class(address: str) -> type[ResultBackend]:
    alias = address.partition("://")[0]
    if alias.startswith("db+"):  # and the name of a dialect and driver of SQLAlchemy's
        alias = "db+"
    path = ALIASES.get(alias, alias)
    if "." not in path:
        announced = {one.name: one.value.replace(":", ".") for one in entry_points(group=ENTRY_POINTS)}
        if path not in announced:
            raise ImproperlyConfigured(_unknown(alias, masked(address), sorted({*ALIASES, *announced})))
        path = announced[path]
    address = masked(address)
    try:
        found: Any = import_string(path)
    except ImportError as exc:
        hint = "; is 'djqueue_results' in INSTALLED_APPS?" if alias == "django-db" else ""
        raise ImproperlyConfigured(f"The result store {address!r} cannot be imported: {exc}{hint}") from exc
    if not (isinstance(found, type) and issubclass(found, ResultBackend)):
        raise ImproperlyConfigured(
            f"The result store {address!r} names {found!r}, which is no ResultBackend."
        )
    return found


def _unknown(alias: str, address: str, known: Sequence[str]) -> str:
    near = get_close_matches(alias, known)
    if alias.partition("+")[0] in ABSENT:
        told = f"Celery has the store {alias!r}, and djqueue has not: known are"
    elif near:
        told = f"There is no result store called {address!r}: did you mean {near[0]!r}? Known are"
    else:
        told = f"There is no result store called {address!r}: known are"
    return f"{told} {', '.join(map(repr, known))}. Others are named by the dotted path of their class."
