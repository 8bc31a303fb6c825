"""PyMongo's client for the store, one for each process, and what its errors mean.

A `Place` comes in; collections leave, and blocks in which no call takes longer than the place allows. A
process that was forked makes a client of its own and never touches what it inherited.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pymongo
from pymongo import MongoClient, ReadPreference
from pymongo.collection import Collection
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    InvalidName,
    OperationFailure,
    ServerSelectionTimeoutError,
)

from djqueue.exceptions import ImproperlyConfigured
from djqueue_results.backends.mongodb.places import NAME, Place

Row = dict[str, Any]

_TIMEOUTS = re.compile(r" \(configured timeouts: [^)]*\)")
#: seconds that are left for calls however long it took to find the server
LEAST = 1.0


class Client:
    """The client of this process."""

    def __init__(self, place: Place) -> None:
        self._place = place
        # What belongs to the parent is kept: thrown away, it might say goodbye to the server.
        self._inherited: list[Any] = []
        self._pid = os.getpid()
        self._made: MongoClient[Row] | None = self._make()
        self._is_indexed = False

    def tasks(self) -> Collection[Row]:
        """Return the collection of results."""
        return self._database()[self._place.tasks]

    def groups(self) -> Collection[Row]:
        """Return the collection of groups."""
        return self._database()[self._place.groups]

    def prepare(self) -> None:
        """See to it that old documents are found quickly, as Celery does it. Raises what PyMongo does."""
        made = self._client()
        if self._is_indexed:
            return
        for collection in (self.tasks(), self.groups()):
            collection.create_index("date_done", background=True)
        self._is_indexed = made is self._made

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """Give the calls in the block as much time together as one may take. Raises what PyMongo does."""
        patience = self._place.patience
        if patience is None:
            yield
            return
        until = time.monotonic() + patience
        made = self._client()
        if made.read_preference == ReadPreference.PRIMARY:
            # Within a time limit of its own PyMongo would not heed serverSelectionTimeoutMS, so the server is
            # looked for before it begins. While it is known that asks nobody.
            _ = made.is_primary
        with pymongo.timeout(max(until - time.monotonic(), LEAST)):
            yield

    def close(self) -> None:
        """Close connections; the next use makes new ones."""
        if self._pid == os.getpid() and self._made is not None:
            made, self._made = self._made, None
            made.close()

    def after_fork(self) -> None:
        """Leave the parent's client alone; the next use makes one for this process."""
        if self._pid != os.getpid():
            self._inherited.append(self._made)
            self._made, self._pid, self._is_indexed = None, os.getpid(), False

    def _database(self) -> Any:
        return self._client()[self._place.database]

    def _client(self) -> MongoClient[Row]:
        self.after_fork()
        made = self._made
        if made is None:
            made = self._made = self._make()
        return made

    def _make(self) -> MongoClient[Row]:
        place = self._place
        try:
            made: MongoClient[Row] = MongoClient(**place.arguments)
            for name in (place.tasks, place.groups):
                made[place.database][name]
        except InvalidName as error:
            raise ImproperlyConfigured(
                f"MongoDB takes no database or collection of that name ({place.database!r}, {place.tasks!r}, "
                f"{place.groups!r}): {error}. RESULT_BACKEND and {NAME} name them."
            ) from None
        except (ConfigurationError, ValueError, TypeError, OSError) as error:
            raise ImproperlyConfigured(
                f"{NAME} or RESULT_BACKEND has an option that PyMongo does not take: {error}"
            ) from None
        if not made.write_concern.acknowledged:
            made.close()
            raise ImproperlyConfigured(
                f"With w=0 in RESULT_BACKEND or {NAME} the server would not tell whether results are kept; "
                "take it away, or use 1 or 'majority'."
            )
        return made


def reason(error: Exception) -> str:
    """Return what the server or the way to it said, without the documents that were on their way."""
    if isinstance(error, BulkWriteError):
        details = error.details or {}
        found = [*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
        return "; ".join(dict.fromkeys(_said(one, "errors of several kinds") for one in found))
    if isinstance(error, OperationFailure):
        return _said(error.details or {}, str(error).partition(", full error")[0])
    text = _TIMEOUTS.sub("", str(error))
    if isinstance(error, ServerSelectionTimeoutError):  # it goes on about the whole topology
        text = text.partition(", Timeout: ")[0]
    return " ".join(text.split()) or type(error).__name__


def _said(details: Mapping[str, Any], otherwise: str) -> str:
    return str(details.get("errmsg") or otherwise)
