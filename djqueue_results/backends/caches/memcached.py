"""Results in memcached, where a stock Celery finds them: `cache+memcached://host:11211;other:11211/`.

pymemcache is the client (`pip install djqueue[memcached]`); CACHE_BACKEND_OPTIONS are its options. Every
answer is waited for, and a document is replaced only if it is still the one that was looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

try:
    from pymemcache.client.base import PooledClient
    from pymemcache.client.hash import HashClient
    from pymemcache.exceptions import MemcacheError, MemcacheServerError, MemcacheUnexpectedCloseError
except ImportError as missing:
    raise ImportError("pymemcache is not installed: pip install djqueue[memcached].") from missing

from djqueue.conf import settings
from djqueue.exceptions import ImproperlyConfigured
from djqueue_results.backends.caches.contract import CacheBackend, CacheError
from djqueue_results.backends.keyvalue.contract import Decide, TooLarge

PORT = 11211
#: memcached takes longer lifetimes for moments, seconds
LONGEST_LIFETIME = 30 * 24 * 60 * 60
#: what a client does unless CACHE_BACKEND_OPTIONS say otherwise; seconds
PATIENCE = {"connect_timeout": 5.0, "timeout": 5.0, "max_pool_size": 10}


class Unreachable(CacheError):
    """Nobody answered."""


class MemcachedBackend(CacheBackend):
    """Keeps documents in one or several memcached servers."""

    def __init__(self, url: str = "", **options: Any) -> None:
        super().__init__(url, **options)
        places = url.partition("://")[2].rstrip("/")
        self._servers = [place for place in places.split(";") if place] or [f"127.0.0.1:{PORT}"]
        self._options = {**PATIENCE, **settings.CACHE_BACKEND_OPTIONS, **options, "default_noreply": False}
        self._client = self._connect()

    def as_uri(self) -> str:
        """Return the address."""
        return f"{self.url.partition('://')[0]}://{';'.join(self._servers)}/"

    def read(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        found: dict[str, bytes] = self._ask(lambda client: client.get_many(keys))
        return found

    def change(self, key: str, decide: Decide, seconds: int) -> None:
        self._ask(lambda client: _change(client, key, decide, _expire(seconds)))

    def remove(self, keys: Sequence[str]) -> None:
        self._ask(lambda client: client.delete_many(keys))

    def begin(self, key: str, seconds: int) -> None:
        self._ask(lambda client: client.add(key, b"0", _expire(seconds)))

    def increase(self, key: str, by: int) -> int | None:
        with _own_errors():  # and never twice
            number: int | None = self._client.incr(key, by)
        return number

    def prolong(self, keys: Sequence[str], seconds: int) -> None:
        self._ask(lambda client: [client.touch(key, _expire(seconds)) for key in keys])

    def close(self) -> None:
        """Close idle connections."""
        self._client.close()

    def after_fork(self) -> None:
        """Forget the parent's connections."""
        self._client = self._connect()

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        """Ask, and once more if nobody answered: idle connections may have died unnoticed."""
        try:
            with _own_errors():
                return question(self._client)
        except Unreachable:
            self._client.close()
            with _own_errors():
                return question(self._client)

    def _connect(self) -> Any:
        try:
            if len(self._servers) == 1:
                return PooledClient(self._servers[0], **self._options)
            # Nothing is put off: what is not stored now is told, and tried again by the worker.
            options = {"use_pooling": True, "retry_attempts": 0, **self._options}
            return HashClient(self._servers, **options)
        except (TypeError, ValueError) as error:
            raise ImproperlyConfigured(
                f"The servers of {self.as_uri()} or CACHE_BACKEND_OPTIONS (pymemcache's) are wrong: {error}"
            ) from error


def _expire(seconds: int) -> int:
    return seconds if seconds <= LONGEST_LIFETIME else int(time.time()) + seconds


def _change(client: Any, key: str, decide: Decide, expire: int) -> None:
    # Most documents are the first of their task.
    first = decide(None)
    if first is None or client.add(key, first, expire):
        return
    while True:
        kept, ticket = client.gets(key)
        value = decide(kept)
        if value is None:
            return
        if kept is None:
            if client.add(key, value, expire):
                return
        elif client.cas(key, value, ticket, expire):
            return


@contextmanager
def _own_errors() -> Iterator[None]:
    try:
        yield
    except MemcacheUnexpectedCloseError as error:
        raise Unreachable("memcached cannot be reached: it closed the connection") from error
    except MemcacheServerError as error:
        if b"too large" in (error.args[0] if error.args else b""):
            raise TooLarge("memcached's largest item (-I) is smaller.") from error
        raise CacheError(f"memcached refused: {error}") from error
    except (OSError, MemcacheError) as error:
        raise Unreachable(f"memcached cannot be reached: {error!r}") from error
