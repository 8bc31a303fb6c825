"""The Redis result store: Celery's documents under Celery's keys, and a message for those who wait.

Workers come in with batches of documents; one script keeps those that are not too late, and publishes them.
Callers that wait subscribe to the document's key before they look at it, so no end is missed and nothing is
asked again and again.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from hashlib import sha1
from pathlib import Path
from typing import Any

from djqueue import states
from djqueue.conf import settings
from djqueue.exceptions import BackendGetMetaError, BackendStoreError, OperationalError
from djqueue.messaging.contract import Source
from djqueue.messaging.delivery import Delivery, Settlement
from djqueue.messaging.transports.idle import Idle
from djqueue.messaging.transports.redis.connections import Refused, Server, Unreachable, Wire
from djqueue.messaging.transports.redis.options import Options
from djqueue.messaging.transports.redis.scripts import SETTLE, Script
from djqueue.messaging.transports.redis.settling import Before
from djqueue.messaging.transports.redis.source import RedisSource
from djqueue.result.contract import ResultBackend, SettleWith
from djqueue.result.documents import Document
from djqueue_results.backends import lifetimes, meta
from djqueue_results.backends.redis_groups import RedisGroups

#: documents and bytes in one step
MOST_DOCUMENTS, MOST_BYTES = 500, 4 * 1024 * 1024
#: bytes that Redis takes as one value
LARGEST_VALUE = 512 * 1024 * 1024
#: while nothing is published, look whether something was missed, seconds
LOOK_AGAIN = 5.0
#: a wait outlives a server that is away for so long, seconds
PATIENCE = 30.0

_STORE = Script.read(Path(__file__).with_name("redis_store.lua"))
_JOINT = _STORE.then(SETTLE)

#: documents, each with the bytes that it is kept as
Portion = list[tuple[Document, bytes]]


class RedisBackend(RedisGroups, ResultBackend):
    """Keeps documents in a Redis, which deletes them after RESULT_EXPIRES."""

    expires_by_itself = True
    wakes_waiters = True
    compresses = True
    parts_failures = True

    def __init__(self, url: str = "", **options: Any) -> None:
        ResultBackend.__init__(self, url, **options)
        given = {**_options_in_settings(), **settings.RESULT_BACKEND_TRANSPORT_OPTIONS, **options}
        read = Options.read(given, "RESULT_BACKEND_TRANSPORT_OPTIONS")
        prefix = read.global_keyprefix
        if prefix and prefix[-1] not in ":_-.":
            prefix += "_"
        self._prefix = f"{prefix}celery-task-meta-"
        in_order = given.get("result_chord_ordered", True)
        address = url if "://" in url else f"{url or 'redis'}://"
        server = Server(address, read, _way_in_settings(), settings.REDIS_MAX_CONNECTIONS)
        RedisGroups.__init__(self, server, prefix, in_order=bool(in_order))
        self._listeners = Idle(self._server.wire)

    def as_uri(self) -> str:
        """Return the address with passwords masked."""
        return repr(self._server.address)

    def store_many(self, documents: Sequence[Document]) -> None:
        """Keep and publish the documents, many in one step."""
        try:
            for portion in self._portions(documents):
                self._store(portion)
        except OperationalError as error:
            first = documents[0]
            raise BackendStoreError(
                f"The results of {len(documents)} tasks could not be written to {self.as_uri()}: {error} "
                f"The first is {first.task_id}.",
                state=first.status,
                task_id=first.task_id,
            ) from error

    def settling_with(self, source: Source) -> SettleWith | None:
        """Return how to store and settle in one script, if the messages are in this very Redis."""
        mine = self._server.address
        if not (isinstance(source, RedisSource) and mine.is_on_server_of(source.address)):
            return None
        databases = mine.db, source.address.db

        def settle_with(
            documents: Sequence[Document], settlements: Sequence[Settlement]
        ) -> list[Delivery] | None:
            first, *more = self._portions(documents)
            if more:
                return None
            in_steps = partial(self._store, first)
            before = Before(_JOINT, databases, *self._call(first, {}), in_steps)
            return source.settle_after(before, settlements)

        return settle_with

    def fetch_many(self, task_ids: Sequence[str]) -> dict[str, Document]:
        """Return the stored documents by task id."""
        found = {}
        for start in range(0, len(task_ids), MOST_DOCUMENTS):
            some = task_ids[start : start + MOST_DOCUMENTS]
            try:
                stored = self._server.call("MGET", *map(self._key, some))
            except OperationalError as error:
                raise BackendGetMetaError(
                    f"The results of {len(task_ids)} tasks could not be read from {self.as_uri()}: {error}",
                    task_id=some[0],
                ) from error
            for task_id, one in zip(some, stored, strict=True):
                if one is not None:
                    found[task_id] = meta.read(task_id, one)
        return found

    def wait(self, task_id: str, timeout: float | None, interval: float | None = None) -> Document | None:
        """Return the document once its state is terminal, or None after `timeout` seconds."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        if timeout is not None and timeout <= 0:
            return _if_ended(self.fetch(task_id))
        give_up_at = 0.0
        while True:
            began = time.monotonic()
            try:
                return self._listen(task_id, deadline)
            except (OperationalError, BackendGetMetaError) as error:
                if not _may_pass(error):
                    raise
                now = time.monotonic()
                if not give_up_at or now - began > 1.0:  # a new break: at first try again at once
                    give_up_at = now + PATIENCE
                    continue
                if now >= deadline:
                    return None
                if now >= give_up_at:
                    raise
                time.sleep(min(random.uniform(0.1, 0.5), max(deadline - now, 0.0)))

    def forget_many(self, task_ids: Sequence[str]) -> None:
        """Delete the documents."""
        for start in range(0, len(task_ids), MOST_DOCUMENTS):
            self._server.call("DEL", *map(self._key, task_ids[start : start + MOST_DOCUMENTS]))

    def clean_up(self) -> int:
        """Return 0: Redis deletes documents by itself."""
        return 0

    def after_fork(self) -> None:
        """Forget the parent's connections."""
        self._server.after_fork()
        self._listeners.forget()

    def close(self) -> None:
        """Close idle connections."""
        self._server.close()
        self._listeners.close()

    def _listen(self, task_id: str, deadline: float) -> Document | None:
        """Wait on one connection; return the document once it has ended, or None when time is up."""
        key = self._key(task_id)
        wire = self._listeners.take()
        try:
            wire.call("SUBSCRIBE", key)
            document = self.fetch(task_id)
            while not (ended := _if_ended(document)):
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                message = wire.read(within=min(left, LOOK_AGAIN))
                if message is None:
                    document = self.fetch(task_id)  # the connection may have died unnoticed
                elif message[0] == b"message":
                    document = meta.read(task_id, message[2])
            _unsubscribe(wire, key)
        except BaseException:
            wire.close()  # what is still to come must not reach the next one who waits
            raise
        finally:
            self._listeners.put(wire)
        return ended

    def _portions(self, documents: Sequence[Document]) -> Iterator[Portion]:
        """Cut into portions that Redis can deal with in one step without keeping others waiting."""
        portion: Portion = []
        size = 0
        for document in documents:
            one = _kept_as(document)
            if portion and (len(portion) == MOST_DOCUMENTS or size + len(one[1]) > MOST_BYTES):
                yield portion
                portion, size = [], 0
            portion.append(one)
            size += len(one[1])
        if portion:
            yield portion

    def _store(self, portion: Portion) -> None:
        """Store the portion; where the script cannot decide what is late, look and decide for it."""
        seen: dict[bytes, str] = {}
        while portion:
            try:
                self._server.run(_STORE, *self._call(portion, seen))
                return
            except Refused as refusal:
                if not refusal.is_undecided:
                    raise
            portion, seen = self._not_late(portion)

    def _call(self, portion: Portion, seen: Mapping[bytes, str]) -> tuple[list[bytes], list[Any]]:
        """Return keys and arguments of STORE. `seen` are the SHA-1s of what documents may replace, by key."""
        keys = [self._key(document.task_id) for document, _ in portion]
        kept_for = {states.FAILURE: lifetimes.of_failures()}
        others = lifetimes.of_results()
        arguments: list[Any] = []
        for key, (document, written) in zip(keys, portion, strict=True):
            arguments += (document.attempt, kept_for.get(document.status, others), seen.get(key, ""), written)
        return keys, arguments

    def _not_late(self, portion: Portion) -> tuple[Portion, dict[bytes, str]]:
        """Return what compressed documents do not refuse, and the SHA-1s of those by key."""
        keys = [self._key(document.task_id) for document, _ in portion]
        left: Portion = []
        seen: dict[bytes, str] = {}
        for key, one, kept in zip(keys, portion, self._server.call("MGET", *keys), strict=True):
            if kept is not None and meta.is_compressed(kept):
                if one[0].attempt < meta.fence_of(one[0].task_id, kept):
                    continue
                seen[key] = sha1(kept, usedforsecurity=False).hexdigest()
            left.append(one)
        return left, seen

    def _key(self, task_id: str) -> bytes:
        return f"{self._prefix}{task_id}".encode("utf-8", "surrogatepass")


def _options_in_settings() -> dict[str, Any]:
    """Return the options of connections that have settings of their own."""
    return {
        "socket_timeout": settings.REDIS_SOCKET_TIMEOUT,
        "socket_connect_timeout": settings.REDIS_SOCKET_CONNECT_TIMEOUT,
        "socket_keepalive": settings.REDIS_SOCKET_KEEPALIVE,
        "client_name": settings.REDIS_CLIENT_NAME,
        "credential_provider": settings.REDIS_BACKEND_CREDENTIAL_PROVIDER,
        "ssl": settings.REDIS_BACKEND_USE_SSL,
    }


def _way_in_settings() -> dict[str, Any]:
    """Return what an address may leave open."""
    way = {
        "host": settings.REDIS_HOST,
        "port": settings.REDIS_PORT,
        "db": settings.REDIS_DB,
        "username": settings.REDIS_USERNAME,
        "password": settings.REDIS_PASSWORD,
    }
    return {name: value for name, value in way.items() if value is not None}


def _kept_as(document: Document) -> tuple[Document, bytes]:
    """Return the document, or a failure if that is too large, and its bytes.

    States that others will soon replace stay text: the script reads it.
    """
    written = meta.write(document)
    if document.status in states.READY_STATES:
        written = meta.compressed(written)
    if len(written) <= LARGEST_VALUE:
        return document, written
    why = f"The result is too large: it has {len(written)} bytes, and Redis takes {LARGEST_VALUE}."
    return _kept_as(document.refused(BackendStoreError(why)))


def _if_ended(document: Document | None) -> Document | None:
    return document if document is not None and document.status in states.READY_STATES else None


def _may_pass(error: Exception) -> bool:
    """Return whether the server is only away for a moment."""
    reason = error.__cause__ if isinstance(error, BackendGetMetaError) else error
    return isinstance(reason, Unreachable) or (isinstance(reason, Refused) and reason.is_temporary)


def _unsubscribe(wire: Wire, key: bytes) -> None:
    """Leave the channel; messages that were under way are read and dropped."""
    wire.send("UNSUBSCRIBE", key)
    while wire.read()[0] != b"unsubscribe":
        pass
