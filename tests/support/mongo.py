"""A MongoDB inside the test's process, for want of a server: mongomock, where PyMongo's clients are made.

Djqueue's clients and stock Celery's see the same collections. As PyMongo does, it writes nothing that is no
BSON or is too large for a document, and bulks come one after the other. Nothing here was compared with a real
server.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import bson
import mongomock
import pymongo
import pytest
from mongomock.store import ServerStore
from pymongo import ReplaceOne
from pymongo.errors import BulkWriteError, DocumentTooLarge, WriteError

REAL = pymongo.MongoClient
#: bytes in a document
LARGEST = 16 * 1024 * 1024


class Client(mongomock.MongoClient):
    """mongomock's client, which has no write concern."""

    write_concern: Any = None


class StandIn:
    """Makes clients of one server that is not there; `made` are the arguments of each."""

    def __init__(self) -> None:
        self.store = ServerStore()
        self.made: list[dict[str, Any]] = []

    def __call__(self, **arguments: Any) -> Any:
        """Return a client; PyMongo's own is made, too, so that it refuses what it would refuse."""
        self.made.append(arguments)
        real: Any = REAL(**{**arguments, "connect": False})
        client: Any = Client(tz_aware=arguments.get("tz_aware", False), _store=self.store)
        client.write_concern = real.write_concern
        real.close()
        return client


def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Let djqueue's store and Celery's find an empty MongoDB, wherever they look for one."""
    server = StandIn()
    lock = threading.RLock()
    replace_one = mongomock.Collection.replace_one

    def bulk_write(self: Any, steps: Sequence[ReplaceOne[Any]], ordered: bool = True) -> None:
        """Replace one after the other, the last one first: without `ordered` a server may do so."""
        assert not ordered
        for step in steps:
            bson.encode(step._filter)
            checked(step._doc)
        failed = []
        with lock:
            for number, step in reversed(list(enumerate(steps))):
                try:
                    replace_one(self, step._filter, checked(step._doc), upsert=bool(step._upsert))
                except WriteError as error:
                    said = {"index": number, "code": error.code, "errmsg": str(error), "op": step._doc}
                    failed.append(said)
        if failed:
            raise BulkWriteError({"writeErrors": failed, "writeConcernErrors": []})

    def replace(self: Any, which: Any, row: Any, **options: Any) -> Any:
        kept = checked(row)
        with lock:
            return replace_one(self, which, kept, **options)

    monkeypatch.setattr(mongomock.Collection, "bulk_write", bulk_write)
    monkeypatch.setattr(mongomock.Collection, "replace_one", replace)
    monkeypatch.setattr("djqueue_results.backends.mongodb.client.MongoClient", server)
    monkeypatch.setattr(pymongo, "MongoClient", server)
    return server


def checked(row: Any) -> dict[str, Any]:
    """Return what the server would get of a document. Raises what PyMongo does if it cannot write it."""
    written = bson.encode(row)
    if len(written) > LARGEST:
        raise DocumentTooLarge("the document is too large")
    return bson.decode(written)
