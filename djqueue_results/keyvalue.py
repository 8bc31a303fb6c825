"""The base for result stores of one's own: `KeyValueBackend`, with the verbs of Celery's class of that kind.

Whoever can `get`, `set` and `delete` bytes under a key has a store; documents, keys and rules are Celery's.
Stores that also `incr` and `expire` count chords. RESULT_BACKEND names the class by its dotted path, or by
the scheme under which a package announces it among the entry points `djqueue.result_backends`.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from djqueue_results.backends.keyvalue.chords import CountingStore
from djqueue_results.backends.keyvalue.contract import Decide, KeyValueError, TooLarge

__all__ = ["Decide", "KeyValueBackend", "KeyValueError", "TooLarge"]


class KeyValueBackend(CountingStore):
    """Keeps documents and groups where values stand under keys.

    Whatever the verbs raise means that the place cannot be used now, and workers try again; `TooLarge` means
    that it never takes this value. `url` is what RESULT_BACKEND says, `as_uri()` what may be shown of it.
    """

    counts_chords = False
    joins_documents = False

    def __init_subclass__(cls, **words: Any) -> None:
        super().__init_subclass__(**words)
        cls.expires_by_itself = cls.expire is not KeyValueBackend.expire
        cls.counts_chords = cls.expires_by_itself and cls.incr is not KeyValueBackend.incr
        cls.joins_documents = cls.counts_chords

    def __init__(self, url: str = "", **options: Any) -> None:
        super().__init__(url, **options)
        self._lock = threading.RLock()

    # -- what a store defines ------------------------------------------------------------------------

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """Return what stands under the key, or None."""

    @abstractmethod
    def set(self, key: str, value: bytes) -> None:
        """Put the value under the key."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Delete the key; a missing one is fine."""

    def mget(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """Return what stands under each of the keys, or None."""
        return [self.get(key) for key in keys]

    def incr(self, key: str) -> int:
        """Add 1 to the number under the key, which is text, in one step, and return it."""
        raise NotImplementedError(f"{self.as_uri()} cannot increase numbers.")

    def expire(self, key: str, seconds: int) -> None:
        """Let what stands under the key be gone after so many seconds. Without this nothing ever goes."""

    def change(self, key: str, decide: Decide, seconds: int) -> None:
        """Let `decide` see what stands under the key, and put there what it returns, unless that is None.

        This implementation keeps out other threads only. A store in which several processes write overrides
        it with what the place has for that (compare and swap, a transaction, a lock), and calls `decide`
        again as often as somebody else was faster; then no attempt that comes too late replaces a newer one.
        """
        with self._lock, _as_ours():
            value = decide(self.get(key))
            if value is not None:
                self.set(key, value)
                if seconds:
                    self.expire(key, seconds)

    # -- what that makes possible --------------------------------------------------------------------

    def read(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        with _as_ours():
            found = zip(keys, self.mget(keys), strict=True)
            return {key: value for key, value in found if value is not None}

    def remove(self, keys: Sequence[str]) -> None:
        with _as_ours():
            for key in keys:
                self.delete(key)

    def begin(self, key: str, seconds: int) -> None:
        self.change(key, lambda kept: b"0" if kept is None else None, seconds)

    def increase(self, key: str, by: int) -> int | None:
        with _as_ours():
            kept = self.get(key)
            if kept is None or not by:
                return None if kept is None else int(kept)
            return self.incr(key)

    def prolong(self, keys: Sequence[str], seconds: int) -> None:
        if seconds:
            with _as_ours():
                for key in keys:
                    self.expire(key, seconds)

    def clean_up(self) -> int:
        """Return 0: what has no `expire` stays."""
        return 0

    def after_fork(self) -> None:
        """Take a lock of one's own; stores with connections make new ones."""
        self._lock = threading.RLock()


@contextmanager
def _as_ours() -> Iterator[None]:
    try:
        yield
    except KeyValueError:
        raise
    except Exception as error:  # whatever the client of that place raises
        raise KeyValueError(f"it failed: {error!r}") from error
