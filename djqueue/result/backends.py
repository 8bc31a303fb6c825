"""From a setting to the store that keeps results: alias, URL or dotted path in, `ResultBackend` out.

Workers and handles ask for `backend()`; one instance per address lives as long as the process. Stores
outside this package are imported only when they are named. Without a store a `DisabledBackend` takes
results and drops them, and says how to get one as soon as somebody wants to read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

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
    "redis": "djqueue_results.backends.redis.RedisBackend",
    "rediss": "djqueue_results.backends.redis.RedisBackend",
    "redis+socket": "djqueue_results.backends.redis.RedisBackend",
    "sentinel": "djqueue_results.backends.redis.RedisBackend",
}

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
    path = ALIASES.get(alias, alias)
    address = masked(address)
    if "." not in path:
        near = get_close_matches(alias, ALIASES)
        meant = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(map(repr, sorted(ALIASES)))}"
        raise ImproperlyConfigured(f"There is no result store called {address!r}: {meant}")
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
