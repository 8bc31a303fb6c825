"""The store `mongodb://…`: documents in the collections of Celery's MongoDB store.

Workers come in with batches of documents, each of which is one unordered bulk of replacements. Each one has
the condition that what stands there may be replaced: the server looks and writes in one step. A stock Celery
reads the documents, and its own are read here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pymongo import ReplaceOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError

from djqueue.conf import settings
from djqueue.exceptions import BackendGetMetaError, BackendStoreError
from djqueue.result.contract import ResultBackend
from djqueue.result.documents import Document, fence
from djqueue_results.backends.mongodb import documents as rows
from djqueue_results.backends.mongodb.client import Client, reason
from djqueue_results.backends.mongodb.places import place_of
from djqueue_results.rows import NO_MOMENT

#: ids in one query
AT_ONCE = 1_000
#: the server's code for an `_id` that is there already
_TAKEN = 11_000
#: codes with which the server refuses a document itself: values and names that it does not take, rules of the
#: collection, documents or keys that are too large
_REFUSALS = {2, 9, 14, 15, 22, 52, 57, 121, 10_334, 17_280, 17_419, 17_420}
#: what a document can do without, to be stored at all
_FOR_PEOPLE = ("traceback", "name", "args", "kwargs", "worker", "queue", "stamps", "children")


class MongoBackend(ResultBackend):
    """Keeps documents in a collection, from which `celery.backend_cleanup` deletes old ones."""

    compresses = True

    def __init__(self, url: str = "", **options: Any) -> None:
        super().__init__(url, **options)
        place = place_of(url)
        self._shown = place.shown
        self._client = Client(place)

    def as_uri(self) -> str:
        """Return where results are, without user, password and options."""
        return self._shown

    # -- documents -----------------------------------------------------------------------------------

    def store_many(self, documents: Sequence[Document]) -> None:
        """Write the documents in bulk. One that the server never takes becomes a FAILURE that says so."""
        if not documents:
            return
        try:
            with self._client.bounded():
                self._client.prepare()
                for some in _rounds(documents):
                    self._write(some)
        except PyMongoError as error:
            first = documents[0]
            raise BackendStoreError(
                f"The results of {len(documents)} tasks could not be written to {self.as_uri()}: "
                f"{reason(error)}. The first is {first.task_id}.",
                state=first.status,
                task_id=first.task_id,
            ) from error

    def fetch_many(self, task_ids: Sequence[str]) -> dict[str, Document]:
        """Return the stored documents by task id."""
        asked = {rows.named(task_id): task_id for task_id in task_ids}
        found = {}
        for some in _portions(list(asked)):
            for row in self._read(self._client.tasks(), some, task_ids[0]):
                task_id = asked[row["_id"]]
                found[task_id] = rows.read(task_id, row)
        return found

    def forget_many(self, task_ids: Sequence[str]) -> None:
        """Delete the documents."""
        for some in _portions([rows.named(task_id) for task_id in task_ids]):
            with self._changing():
                self._client.tasks().delete_many({"_id": {"$in": some}})

    def clean_up(self) -> int:
        """Delete what ended RESULT_EXPIRES ago, or was last written then and never ended."""
        if not settings.RESULT_EXPIRES:
            return 0
        try:
            oldest = datetime.fromtimestamp(time.time() - settings.RESULT_EXPIRES, UTC)
        except NO_MOMENT:  # before the year 1
            return 0
        with self._changing():
            self._client.prepare()
        which = rows.older_than(oldest)
        self._prune(self._client.groups(), which)
        return self._prune(self._client.tasks(), which)

    # -- groups --------------------------------------------------------------------------------------

    def save_group(self, group_id: str, members: Any) -> None:
        """Keep the group as Celery does."""
        row = rows.write_group(group_id, members)
        with self._changing():
            self._client.prepare()
            for is_last in (False, True):
                try:
                    self._client.groups().replace_one({"_id": row["_id"]}, row, upsert=True)
                    return
                except DuplicateKeyError:  # somebody else saved it for the first time, in this moment
                    if is_last:
                        raise

    def restore_group(self, group_id: str) -> Any:
        """Return what was kept of the group by us or by Celery, or None."""
        found = self._read(self._client.groups(), [rows.named(group_id)], group_id)
        return rows.read_group(group_id, found[0]) if found else None

    def delete_group(self, group_id: str) -> None:
        """Forget the group."""
        with self._changing():
            self._client.groups().delete_one({"_id": rows.named(group_id)})

    # -- connections ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Close connections."""
        self._client.close()

    def after_fork(self) -> None:
        """Leave the parent's connections alone."""
        self._client.after_fork()

    # -- inside --------------------------------------------------------------------------------------

    def _write(self, documents: Sequence[Document]) -> None:
        """Write the documents, of which no two are of one task."""
        try:
            refused = self._replace(documents)
        except rows.UNFIT as error:
            # The client says that of a bulk as a whole; what it has sent already may be sent again.
            refused = [(document, str(error)) for document in documents]
            if len(documents) > 1:
                for document in documents:
                    self._write([document])
                return
        for document, why in refused:
            self._write([self._lesser(document, why)])

    def _replace(self, documents: Sequence[Document]) -> list[tuple[Document, str]]:
        """Write what may be written, and return what the server refuses, with the reasons."""
        refused = []
        left = list(documents)
        for _ in range(2):
            steps = [ReplaceOne(rows.replaceable_by(one), rows.write(one), upsert=True) for one in left]
            try:
                self._client.tasks().bulk_write(steps, ordered=False)
                break
            except BulkWriteError as error:
                failed = _failed(error)
                refused += [(left[number], why) for number, code, why in failed if code in _REFUSALS]
                # The id is taken, and the condition does not hold: what stands there is newer or final, or
                # somebody has just written the first document of the task. So it is tried once more.
                left = [left[number] for number, code, _ in failed if code == _TAKEN]
                if not left:
                    break
        return refused

    def _lesser(self, document: Document, why: str) -> Document:
        """Return what is stored in place of a document that is never taken."""
        if any(getattr(document, name) is not None for name in _FOR_PEOPLE):
            nothing: dict[str, Any] = dict.fromkeys(_FOR_PEOPLE)
            return replace(document, **nothing)
        said = f"The result is too large for {self.as_uri()}, or not what it takes: {why}"
        told = document.refused(BackendStoreError(said))
        if document.result == told.result:
            raise BackendStoreError(said, state=document.status, task_id=document.task_id)
        return told

    def _prune(self, collection: Collection[Any], which: Mapping[str, Any]) -> int:
        """Delete in portions, so that none of them takes long."""
        count = 0
        while True:
            with self._changing():
                found = [row["_id"] for row in collection.find(which, {"_id": 1}).limit(AT_ONCE)]
                if not found:
                    return count
                # The condition again: a newer document may just have taken its place.
                deleted = collection.delete_many({"_id": {"$in": found}, **which}).deleted_count
                count += deleted

    def _read(self, collection: Collection[Any], ids: list[str], about: str) -> list[dict[str, Any]]:
        try:
            with self._client.bounded():
                return list(collection.find({"_id": {"$in": ids}}))
        except (PyMongoError, *rows.UNFIT) as error:
            raise BackendGetMetaError(
                f"Results could not be read from {self.as_uri()}: {reason(error)}", task_id=about
            ) from error

    @contextmanager
    def _changing(self) -> Iterator[None]:
        try:
            with self._client.bounded():
                yield
        except PyMongoError as error:
            raise BackendStoreError(
                f"Nothing could be changed in {self.as_uri()}: {reason(error)}"
            ) from error


def _failed(error: BulkWriteError) -> list[tuple[int, int, str]]:
    """Return numbers, codes and messages of what failed, if the server has judged each for itself."""
    details = error.details or {}
    failed = [
        (one["index"], one.get("code"), str(one.get("errmsg"))) for one in details.get("writeErrors", ())
    ]
    if details.get("writeConcernErrors") or not failed:
        raise error
    if any(code != _TAKEN and code not in _REFUSALS for _, code, _ in failed):
        raise error
    return failed


def _rounds(documents: Sequence[Document]) -> Iterator[list[Document]]:
    """Divide documents so that no two of a round are of one task: the order of a bulk is the server's.

    What the next document of the same task would replace anyhow is left out.
    """
    by_task: dict[str, list[Document]] = {}
    for document in documents:
        kept = by_task.setdefault(rows.named(document.task_id), [])
        while kept and document.attempt >= fence(kept[-1].status, kept[-1].attempt, kept[-1].retries):
            kept.pop()
        kept.append(document)
    for number in range(max(map(len, by_task.values()))):
        yield [some[number] for some in by_task.values() if len(some) > number]


def _portions(items: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]
