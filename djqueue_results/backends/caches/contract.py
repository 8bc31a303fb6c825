"""What is common to caches: they forget by themselves, and take only short keys of plain characters.

Documents come in and stand under Celery's keys (`keyvalue/contract.py`). Caches throw away what they have no
room for; whoever needs every result keeps them elsewhere.
"""

from __future__ import annotations

import re

from djqueue_results.backends.keyvalue.chords import CountingStore
from djqueue_results.backends.keyvalue.contract import KeyValueError, digest

#: memcached's rule, which other caches are easily content with
_GOOD_KEY = re.compile(r"[!-~]{1,200}")


class CacheError(KeyValueError):
    """The cache could not be reached, or did not do as it was told."""


class CacheBackend(CountingStore):
    """Keeps documents in a cache for RESULT_EXPIRES, or until the cache needs the room."""

    expires_by_itself = True

    def clean_up(self) -> int:
        """Return 0: the cache deletes documents by itself."""
        return 0

    def named(self, task_id: str) -> str:
        """Return the id as it stands in a key: itself, or a digest if no cache would take it."""
        return task_id if _GOOD_KEY.fullmatch(task_id) else digest(task_id)
