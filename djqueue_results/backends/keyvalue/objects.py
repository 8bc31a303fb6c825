"""What the stores of objects share: buckets at Amazon and Google, containers at Azure.

A place that reads one object with a tag of its version, and writes one on the condition that the version is
still that one, becomes a store of documents here. Threads let a few requests be under way at the same time;
every process has a client of its own.
"""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Lock
from typing import Any

from djqueue.conf import settings
from djqueue.exceptions import BackendStoreError
from djqueue_results.backends.keyvalue.contract import Decide, DocumentStore, KeyValueError, digest

#: so many requests are under way at the same time
AT_ONCE = 10
#: longer ids, in bytes, become digests: keys may have 1024 bytes, prefixes included
LONGEST_ID = 400


class OfThisProcess:
    """A client that `make` makes again in a process that was forked, and after it was closed."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._lock = Lock()
        #: never closed here: their sockets are the parent's
        self._inherited: list[Any] = []
        self._made: Any = None
        self._pid = os.getpid()

    def __call__(self) -> Any:
        """Return the client of this process."""
        if self._pid != os.getpid():
            self._lock = Lock()
            self._inherited.append(self._made)
            self._made, self._pid = None, os.getpid()
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    def close(self) -> None:
        """Close the client; the next call makes another one."""
        made, self._made = self._made, None
        if made is not None and self._pid == os.getpid():
            made.close()


class ObjectStore(DocumentStore):
    """Keeps documents as objects, of which `celery.backend_cleanup` deletes old ones."""

    at_once = AT_ONCE

    # -- what the place does -------------------------------------------------------------------------

    @abstractmethod
    def get(self, key: str) -> tuple[bytes | None, Any]:
        """Return the object and the tag of its version; None and None if there is none."""

    @abstractmethod
    def put(self, key: str, value: bytes, tag: Any) -> bool:
        """Write the object in place of the one with that tag, or of none; False if it is another by now."""

    @abstractmethod
    def delete(self, keys: Sequence[str]) -> None:
        """Delete the objects; missing ones are fine."""

    @abstractmethod
    def older(self, prefix: str, moment: datetime) -> Iterator[str]:
        """Yield the keys that begin so and were last written before the moment."""

    # -- what follows from it ------------------------------------------------------------------------

    def named(self, task_id: str) -> str:
        """Return the id as it stands in a key: itself, or a digest of what no key can hold as it is."""
        steps = task_id.split("/")
        is_plain = task_id.isprintable() and "\\" not in task_id and not any(_is_lost(step) for step in steps)
        return task_id if is_plain and len(task_id.encode()) <= LONGEST_ID else digest(task_id)

    def read(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        if len(keys) == 1:  # as whoever waits for a task asks, again and again
            value, _ = self.get(keys[0])
            return {} if value is None else {keys[0]: value}
        with ThreadPoolExecutor(self.at_once) as pool:
            found = zip(keys, pool.map(lambda key: self.get(key)[0], keys), strict=True)
            return {key: value for key, value in found if value is not None}

    def change(self, key: str, decide: Decide, seconds: int) -> None:
        while True:
            kept, tag = self.get(key)
            value = decide(kept)
            if value is None or self.put(key, value, tag):
                return

    def remove(self, keys: Sequence[str]) -> None:
        self.delete(keys)

    def clean_up(self) -> int:
        """Delete what was last written RESULT_EXPIRES ago. Every result's name is listed for that."""
        if not settings.RESULT_EXPIRES:
            return 0
        oldest = datetime.fromtimestamp(time.time() - settings.RESULT_EXPIRES, UTC)
        try:
            self.delete(list(self.older(self._group_prefix, oldest)))
            old = list(self.older(self._prefix, oldest))
            self.delete(old)
        except KeyValueError as error:
            raise BackendStoreError(
                f"Old results could not be deleted from {self.as_uri()}: {error}"
            ) from error
        return len(old)


def _is_lost(step: str) -> bool:
    """Return whether what stands between two slashes changes on the way, as `..` and a last dot do."""
    return not step or step.endswith(".")
