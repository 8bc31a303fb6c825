"""Results in one of Django's caches, as django-celery-results keeps them: `django-cache`, `django-cache://alias`.

Any cache that several processes share will do; which one says the address or CACHE_BACKEND, else it is the
default one. Django's caches cannot compare and swap, so a key of its own guards each document while it is
changed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from django.core.cache import DEFAULT_CACHE_ALIAS, BaseCache, caches
from django.core.cache.backends.base import InvalidCacheBackendError
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache

from djqueue.conf import settings
from djqueue.exceptions import ImproperlyConfigured
from djqueue_results.backends.caches.contract import CacheBackend, CacheError
from djqueue_results.backends.keyvalue.contract import Decide

#: whoever dies while changing a document keeps others from it for so long, seconds
GUARDED = 10
#: pauses between two looks at the guard: the first and the longest, seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.001, 0.02


class DjangoCacheBackend(CacheBackend):
    """Keeps documents in a cache of CACHES."""

    def __init__(self, url: str = "", **options: Any) -> None:
        super().__init__(url, **options)
        self.alias = url.partition("://")[2].strip("/") or settings.CACHE_BACKEND or DEFAULT_CACHE_ALIAS
        try:
            cache = caches[self.alias]
        except InvalidCacheBackendError as error:
            raise ImproperlyConfigured(f"There is no cache {self.alias!r} for results: {error}") from error
        if isinstance(cache, DummyCache):
            raise ImproperlyConfigured(
                f"Results are to be kept in the cache {self.alias!r}, which keeps nothing (DummyCache)."
            )
        wanted = settings.RESULT_BACKEND_TRANSPORT_OPTIONS.get("count_chords", True)
        #: Django's own way to increase a number is to read it and to write another one
        self.counts_chords = bool(wanted) and type(cache).incr is not BaseCache.incr
        self.joins_documents = self.counts_chords
        #: a cache in memory is known to its own process only
        self.is_shared = not isinstance(cache, LocMemCache)

    def as_uri(self) -> str:
        """Return the address."""
        return f"django-cache://{self.alias}"

    def read(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        found = self._ask(lambda cache: cache.get_many(keys))
        return {
            key: value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
            for key, value in found.items()
        }

    def change(self, key: str, decide: Decide, seconds: int) -> None:
        # Most documents are the first of their task. Adding needs no guard, as it replaces nothing.
        if self._put("add", key, decide(None), seconds):
            return
        guard = f"{key}.guard"
        self._take(guard)
        try:
            done = False
            while not done:
                kept = self.read([key]).get(key)
                done = self._put("add" if kept is None else "set", key, decide(kept), seconds)
        finally:
            self._ask(lambda cache: cache.delete(guard))

    def remove(self, keys: Sequence[str]) -> None:
        self._ask(lambda cache: cache.delete_many(keys))

    def begin(self, key: str, seconds: int) -> None:
        self._ask(lambda cache: cache.add(key, 0, seconds or None))

    def increase(self, key: str, by: int) -> int | None:
        def increase(cache: BaseCache) -> int | None:
            try:
                return cache.incr(key, by)
            except ValueError:  # there is no such key
                return None

        number: int | None = self._ask(increase)
        return number

    def prolong(self, keys: Sequence[str], seconds: int) -> None:
        self._ask(lambda cache: [cache.touch(key, seconds or None) for key in keys])

    def close(self) -> None:
        """Close this thread's connection to the cache."""
        if self.alias in caches.settings:  # else the settings have changed since
            caches[self.alias].close()

    def _put(self, verb: str, key: str, value: bytes | None, seconds: int) -> bool:
        """Add or set, unless there is nothing to put; return False if something else was added before."""
        if value is None:
            return True
        # Text, as django-celery-results has it; what is no text is kept as it is.
        kept = value.decode() if value.startswith(b"{") else value
        return self._ask(lambda cache: getattr(cache, verb)(key, kept, seconds or None)) is not False

    def _take(self, guard: str) -> None:
        pause = FIRST_PAUSE
        give_up_at = time.monotonic() + 2 * GUARDED
        while not self._ask(lambda cache: cache.add(guard, os.getpid(), GUARDED)):
            if time.monotonic() > give_up_at:
                raise CacheError(f"the cache keeps {guard!r} longer than it was told to.")
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _ask(self, question: Any) -> Any:
        cache: BaseCache = caches[self.alias]  # each thread has one of its own
        try:
            return question(cache)
        except Exception as error:  # whatever the client of that cache raises
            raise CacheError(f"the cache failed: {error!r}") from error
