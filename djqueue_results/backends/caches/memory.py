"""Results in this process's memory, for tests: `cache+memory://`, beside the broker `memory://`.

All threads of the process share them, whatever the instance; the oldest go first.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from djqueue_results.backends.caches.contract import CacheBackend
from djqueue_results.backends.keyvalue.contract import Decide

#: so many are kept, as in Celery
MOST_KEPT = 5_000


class MemoryBackend(CacheBackend):
    """Keeps documents in a dictionary, for as long as the store is not closed."""

    is_shared = False

    def __init__(self, url: str = "", **options: Any) -> None:
        super().__init__(url, **options)
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    def as_uri(self) -> str:
        """Return the address."""
        return "cache+memory://"

    def read(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        with self._lock:
            return {key: self._kept[key] for key in keys if key in self._kept}

    def change(self, key: str, decide: Decide, seconds: int) -> None:
        with self._lock:
            value = decide(self._kept.get(key))
            if value is not None:
                self._kept[key] = value
                self._kept.move_to_end(key)
                while len(self._kept) > MOST_KEPT:
                    self._kept.popitem(last=False)

    def remove(self, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                self._kept.pop(key, None)

    def begin(self, key: str, seconds: int) -> None:
        self.change(key, lambda kept: b"0" if kept is None else None, seconds)

    def increase(self, key: str, by: int) -> int | None:
        with self._lock:
            if key not in self._kept:
                return None
            number = int(self._kept[key]) + by
            self._kept[key] = b"%d" % number
            return number

    def prolong(self, keys: Sequence[str], seconds: int) -> None:
        """Do nothing: what is kept does not expire."""

    def after_fork(self) -> None:
        """Begin with nothing: another thread of the parent may have held the lock."""
        self._lock = threading.Lock()
        self._kept = OrderedDict()
