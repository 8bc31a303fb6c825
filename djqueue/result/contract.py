"""The seam to result stores: what a backend must be able to do.

Workers store many documents at once; callers fetch, wait and forget. Backends arrive by alias, URL scheme
or dotted path (`result/backends.py`); the ORM store lives in the app djqueue_results.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from djqueue import states
from djqueue.result.documents import Document


class ResultBackend(ABC):
    """A place where documents are kept. Safe to use from several threads."""

    #: the store deletes expired documents by itself
    expires_by_itself: bool = False
    #: `wait` is woken by the store instead of asking again and again
    wakes_waiters: bool = False
    #: Django database alias the documents live in, or None: a broker on the same alias commits with them
    transactional_alias: str | None = None
    #: states and results are really kept (False only for the disabled store)
    keeps: bool = True

    @abstractmethod
    def store_many(self, documents: Sequence[Document]) -> None:
        """Keep the documents; of several for one task the last wins.

        A document older than the stored one (by `attempt`), and any change of a terminal state within
        the same attempt, is ignored. Raises `BackendStoreError` when the store cannot be written.
        """

    @abstractmethod
    def fetch_many(self, task_ids: Sequence[str]) -> Mapping[str, Document]:
        """Return the stored documents by task id; unknown ids are missing."""

    @abstractmethod
    def forget_many(self, task_ids: Sequence[str]) -> None:
        """Delete the documents; unknown ids are fine."""

    @abstractmethod
    def clean_up(self) -> int:
        """Delete what is older than RESULT_EXPIRES, and return how many documents that were."""

    def fetch(self, task_id: str) -> Document | None:
        """Return the document of one task, or None."""
        return self.fetch_many([task_id]).get(task_id)

    def wait(self, task_id: str, timeout: float | None, interval: float | None = None) -> Document | None:
        """Return the task's document once its state is terminal, or None after `timeout` seconds.

        This implementation asks again and again, from every 10 ms up to every 250 ms (or `interval`).
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.01
        while True:
            document = self.fetch(task_id)
            if document is not None and document.status in states.READY_STATES:
                return document
            left = float("inf") if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(interval or pause, left))
            pause = min(pause * 1.5, 0.25)

    def close(self) -> None:
        """Close what is open. May be called twice; the backend can be used again afterwards."""

    def after_fork(self) -> None:
        """Forget inherited connections without touching the wire (called in the child)."""

    def as_uri(self) -> str:
        """Return the store's address with passwords masked."""
        return type(self).__name__

    def __init__(self, url: str = "", **options: Any) -> None:
        self.url = url
        self.options = options
