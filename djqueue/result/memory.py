"""What a process remembers of the results it has read: the latest RESULT_CACHE_MAX successes.

Documents come in when they are read and leave when they are asked for again. Other ends may still change.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from djqueue import states
from djqueue.conf import settings
from djqueue.result.documents import Document


class Memory:
    """Documents by task id. Several threads may use it without a lock, which a fork would leave locked."""

    def __init__(self) -> None:
        #: the one that was not asked for the longest comes first
        self._kept: dict[str, Document] = {}

    def recall(self, task_ids: Iterable[str]) -> dict[str, Document]:
        """Return what is remembered of these tasks."""
        if not self._kept:
            return {}
        found = {}
        for task_id in task_ids:
            document = self._kept.pop(task_id, None)
            if document is not None:
                found[task_id] = self._kept[task_id] = document
        return found

    def note(self, documents: Iterable[Document]) -> None:
        """Remember the successes among these documents; forget what is too much."""
        most = settings.RESULT_CACHE_MAX
        if most < 0:
            return
        for document in documents:
            if document.status == states.SUCCESS:
                self._kept[document.task_id] = document
        while most and len(self._kept) > most:
            with suppress(RuntimeError, StopIteration):  # another thread was just here
                self._kept.pop(next(iter(self._kept)), None)

    def drop(self, task_ids: Iterable[str]) -> None:
        """Forget what is remembered of these tasks."""
        for task_id in task_ids:
            self._kept.pop(task_id, None)
