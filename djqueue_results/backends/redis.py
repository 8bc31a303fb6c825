"""The Redis result store: Celery's documents under Celery's keys, and a message for those who wait.

Workers come in with batches of documents; one script keeps those that are not too late, and publishes them.
Callers that wait subscribe to the document's key before they look at it, so no end is missed and nothing is
asked again and again.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from djqueue import states
from djqueue.conf import settings
from djqueue.exceptions import BackendGetMetaError, BackendStoreError, OperationalError
from djqueue.messaging.transports.redis.connections import Idle, Refused, Server, Unreachable, Wire
from djqueue.messaging.transports.redis.options import Options
from djqueue.messaging.transports.redis.scripts import Script
from djqueue.result.contract import ResultBackend
from djqueue.result.documents import Document
from djqueue_results.backends import meta

#: documents and bytes in one step
MOST_DOCUMENTS, MOST_BYTES = 500, 4 * 1024 * 1024
#: while nothing is published, look whether something was missed, seconds
LOOK_AGAIN = 5.0
#: a wait outlives a server that is away for so long, seconds
PATIENCE = 30.0

_STORE = Script(Path(__file__).with_name("redis_store.lua"))


class RedisBackend(ResultBackend):
    """Keeps documents in a Redis, which deletes them after RESULT_EXPIRES."""

    expires_by_itself = True
    wakes_waiters = True

    def __init__(self, url: str = "", **options: Any) -> None:
        super().__init__(url, **options)
        given = {**settings.RESULT_BACKEND_TRANSPORT_OPTIONS, **options}
        read = Options.read(given, "RESULT_BACKEND_TRANSPORT_OPTIONS")
        prefix = read.global_keyprefix
        if prefix and prefix[-1] not in ":_-.":
            prefix += "_"
        self._prefix = f"{prefix}celery-task-meta-"
        self._server = Server(url, read)
        self._listeners = Idle(self._server.wire)

    def as_uri(self) -> str:
        """Return the address with passwords masked."""
        return repr(self._server.address)

    def store_many(self, documents: Sequence[Document]) -> None:
        """Keep and publish the documents, many in one step."""
        expires = settings.RESULT_EXPIRES
        seconds = max(math.ceil(expires), 1) if expires else 0
        try:
            for keys, pairs in self._portions(documents):
                self._server.run(_STORE, keys, [seconds, *pairs])
        except OperationalError as error:
            first = documents[0]
            raise BackendStoreError(
                f"The results of {len(documents)} tasks could not be written to {self.as_uri()}: {error} "
                f"The first is {first.task_id}.",
                state=first.status,
                task_id=first.task_id,
            ) from error

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

    def _portions(self, documents: Sequence[Document]) -> Iterator[tuple[list[bytes], list[Any]]]:
        """Cut into portions that Redis can deal with in one step without keeping others waiting."""
        keys: list[bytes] = []
        pairs: list[Any] = []
        size = 0
        for document in documents:
            written = meta.write(document)
            if keys and (len(keys) == MOST_DOCUMENTS or size + len(written) > MOST_BYTES):
                yield keys, pairs
                keys, pairs, size = [], [], 0
            keys.append(self._key(document.task_id))
            pairs += (document.attempt, written)
            size += len(written)
        if keys:
            yield keys, pairs

    def _key(self, task_id: str) -> bytes:
        return f"{self._prefix}{task_id}".encode("utf-8", "surrogatepass")


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
