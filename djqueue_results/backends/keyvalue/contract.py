"""The store that keeps Celery's documents under Celery's keys, and the seam to what keeps keys and values.

Documents come in and stand under their keys as Celery writes them. A place (files, a cache, a bucket)
reads many keys, and changes one after looking at it, so that two who write at once cannot undo each other.
What is too large for the place becomes a failure that says so.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from djqueue.conf import settings
from djqueue.exceptions import BackendGetMetaError, BackendStoreError, DjqueueError
from djqueue.result.contract import ResultBackend
from djqueue.result.documents import Document
from djqueue_results.backends import lifetimes, meta

#: decides what is to stand under a key in place of what stands there; None leaves it as it is
Decide = Callable[[bytes | None], bytes | None]


class KeyValueError(DjqueueError):
    """The place could not be reached, or did not do as it was told."""


class TooLarge(KeyValueError):
    """The place takes nothing so large."""


class DocumentStore(ResultBackend):
    """Keeps documents and groups under keys."""

    #: so many tasks' documents are changed at the same time, by threads
    at_once: int = 1

    def __init__(self, url: str = "", **options: Any) -> None:
        super().__init__(url, **options)
        prefix = settings.RESULT_BACKEND_TRANSPORT_OPTIONS.get("global_keyprefix", "")
        if prefix and prefix[-1] not in ":_-.":
            prefix += "_"
        self._prefix = f"{prefix}celery-task-meta-"
        self._group_prefix = f"{prefix}celery-taskset-meta-"
        self._chord_prefix = f"{prefix}chord-unlock-"

    # -- what the place does -------------------------------------------------------------------------

    @abstractmethod
    def read(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Return what stands under the keys; missing ones are missing. Raises KeyValueError."""

    @abstractmethod
    def change(self, key: str, decide: Decide, seconds: int) -> None:
        """Let `decide` see what stands under the key, and put there what it returns, for so many seconds.

        Nobody else changes it in between. 0 seconds are for ever. Raises KeyValueError, or TooLarge.
        """

    @abstractmethod
    def remove(self, keys: Sequence[str]) -> None:
        """Delete the keys; missing ones are fine. Raises KeyValueError."""

    def named(self, task_id: str) -> str:
        """Return the id as it stands in a key: itself, or a digest if the place does not take it."""
        return task_id

    # -- documents -----------------------------------------------------------------------------------

    def store_many(self, documents: Sequence[Document]) -> None:
        """Keep the documents. One that is too large for the place becomes a FAILURE that says so."""
        by_task: dict[str, list[Document]] = {}
        for document in documents:
            by_task.setdefault(document.task_id, []).append(document)
        if self.at_once == 1 or len(by_task) < 2:
            for some in by_task.values():
                self._store_in_order(some)
            return
        with ThreadPoolExecutor(self.at_once) as pool:
            for _ in pool.map(self._store_in_order, by_task.values()):
                pass

    def fetch_many(self, task_ids: Sequence[str]) -> dict[str, Document]:
        """Return the stored documents by task id."""
        keys = {self._key(task_id): task_id for task_id in task_ids}
        if not keys:
            return {}
        stored = self._read(list(keys), task_ids[0])
        return {task_id: meta.read(task_id, stored[key]) for key, task_id in keys.items() if key in stored}

    def forget_many(self, task_ids: Sequence[str]) -> None:
        """Delete the documents."""
        self._delete([self._key(task_id) for task_id in task_ids])

    # -- groups --------------------------------------------------------------------------------------

    def save_group(self, group_id: str, members: Any) -> None:
        """Keep a group as Celery does."""
        text = self._kept_as(json.dumps({"result": members}).encode())
        try:
            self.change(self._group_key(group_id), lambda kept: text, lifetimes.of_results())
        except KeyValueError as error:
            raise BackendStoreError(
                f"Group {group_id} could not be written to {self.as_uri()}: {error}", task_id=group_id
            ) from error

    def restore_group(self, group_id: str) -> Any:
        """Return what `save_group` kept, or None."""
        key = self._group_key(group_id)
        kept = self._read([key], group_id).get(key)
        return None if kept is None else meta.loads(kept)["result"]

    def delete_group(self, group_id: str) -> None:
        """Forget the group."""
        self._delete([self._group_key(group_id)])

    # -- inside --------------------------------------------------------------------------------------

    def _store_in_order(self, documents: Sequence[Document]) -> None:
        seconds = lifetimes.of_results()
        for document in documents:
            try:
                self._store(document, seconds)
            except KeyValueError as error:
                raise BackendStoreError(
                    f"The result of task {document.task_id} could not be written to {self.as_uri()}: {error}",
                    state=document.status,
                    task_id=document.task_id,
                ) from error

    def _store(self, document: Document, seconds: int) -> None:
        key = self._key(document.task_id)
        try:
            self.change(key, self._unless_late(document), seconds)
        except TooLarge as error:
            refusal = BackendStoreError(f"The result is too large for {self.as_uri()}: {error}")
            self.change(key, self._unless_late(document.refused(refusal)), seconds)

    def _unless_late(self, document: Document) -> Decide:
        """Return the decision for a document: it stands, unless what is kept is newer or final."""
        written = self._kept_as(meta.write(document))

        def decide(stored: bytes | None) -> bytes | None:
            is_late = stored is not None and document.attempt < meta.fence_of(document.task_id, stored)
            return None if is_late else written

        return decide

    def _kept_as(self, written: bytes) -> bytes:
        return meta.compressed(written) if self.compresses else written

    def _read(self, keys: Sequence[str], wanted: str) -> Mapping[str, bytes]:
        try:
            return self.read(keys)
        except KeyValueError as error:
            raise BackendGetMetaError(
                f"Results could not be read from {self.as_uri()}: {error}", task_id=wanted
            ) from error

    def _delete(self, keys: Sequence[str]) -> None:
        try:
            self.remove(keys)
        except KeyValueError as error:
            raise BackendStoreError(f"Nothing could be deleted from {self.as_uri()}: {error}") from error

    def _key(self, task_id: str) -> str:
        return f"{self._prefix}{self.named(task_id)}"

    def _group_key(self, group_id: str) -> str:
        return f"{self._group_prefix}{self.named(group_id)}"


def digest(text: str) -> str:
    """Return a name of fixed length and plain characters for what would make no good key."""
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
