"""The rpc store: results are messages to the process that sent the task, and nobody else can read them.

Workers come in with documents, which leave for the queues named in `reply_to`, in Celery's form. The process
that sent the tasks takes its replies when somebody asks: one of those who wait listens for all of them, so
any thread may wait for any task. The latest states stay in memory; nothing is kept on a server.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from djqueue import states
from djqueue.conf import settings
from djqueue.exceptions import BackendGetMetaError, BackendStoreError, DjqueueError, OperationalError
from djqueue.messaging.contract import Replies, Reply
from djqueue.messaging.replies import open_replies
from djqueue.result.contract import ResultBackend
from djqueue.result.documents import Document, fence
from djqueue_results.backends import meta

#: so many states are remembered; the ones that came first are forgotten first
MOST_KEPT = 10_000
#: one who listens for all looks around at least so often, seconds
TURN = 1.0
#: a wait outlives a broker that is away for so long, seconds
PATIENCE = 30.0
#: pause before a broker that is away is tried again, seconds
PAUSE = 0.5


class RpcBackend(ResultBackend):
    """Sends documents to whoever sent the task, which remembers them for as long as it lives."""

    expires_by_itself = True
    wakes_waiters = True
    is_shared = False

    def __init__(self, url: str = "", **options: Any) -> None:
        super().__init__(url, **options)
        self._inherited: list[Replies | None] = []
        self._is_expecting = False
        self._begin()

    @property
    def persists(self) -> bool:
        """Whether replies that wait for their reader are kept on disk."""
        return bool(settings.RESULT_PERSISTENT)

    def as_uri(self) -> str:
        """Return the scheme: the broker's address is the address."""
        return "rpc://"

    def check_chords(self) -> NoReturn:
        """Refuse: a worker that completes a chord could not read the results of its parts."""
        raise NotImplementedError(
            "The result store rpc:// cannot complete chords (a group with something after it is one): "
            "results go to the process that sent the tasks, and workers cannot read them. Set RESULT_BACKEND "
            "to a store that several processes share, such as 'django-db' or redis://…"
        )

    def expect_results(self) -> None:
        """Declare this process's queue, once: what is sent to a queue that is not there is dropped."""
        if not self._is_expecting or self._process != os.getpid():
            self._replies().declare()
            self._is_expecting = True

    # -- in the worker -------------------------------------------------------------------------------

    def store_many(self, documents: Sequence[Document]) -> None:
        """Send the documents to those who asked; what nobody asked for goes nowhere."""
        replies = [_reply(document) for document in documents if document.reply_to]
        if not replies:
            return
        try:
            self._replies().send(replies)
        except OperationalError as error:
            first = documents[0]
            raise BackendStoreError(
                f"The results of {len(documents)} tasks could not be sent: {error} "
                f"The first is {first.task_id}.",
                state=first.status,
                task_id=first.task_id,
            ) from error

    # -- in the process that sent the tasks ----------------------------------------------------------

    def fetch_many(self, task_ids: Sequence[str]) -> Mapping[str, Document]:
        """Return what has come for these tasks, after a look whether there is more."""
        if not task_ids:
            return {}
        replies = self._replies()
        with self._listening(wait=False) as listens:
            if listens:  # else somebody else does, for all of us
                try:
                    replies.collect()
                except OperationalError as error:
                    raise BackendGetMetaError(
                        f"Results could not be received: {error}", task_id=task_ids[0]
                    ) from error
        with self._changed:
            return {task_id: found for task_id in task_ids if (found := self._known(task_id)) is not None}

    def forget_many(self, task_ids: Sequence[str]) -> None:
        """Forget what has come for these tasks."""
        self.fetch_many(task_ids)  # what is still in the queue would come back later
        with self._changed:
            for task_id in task_ids:
                self._kept.pop(task_id, None)

    def clean_up(self) -> int:
        """Return 0: nothing is kept."""
        return 0

    def wait(self, task_id: str, timeout: float | None, interval: float | None = None) -> Document | None:
        """Return the document once its state is terminal, or None after `timeout` seconds.

        Raises:
            BackendGetMetaError: the broker was away for longer than `PATIENCE`.
        """
        if timeout is not None and timeout <= 0:
            return _if_ended(self.fetch(task_id))
        replies = self._replies()
        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        broken_since: float | None = None
        while True:
            with self._changed:
                ended = _if_ended(self._known(task_id))
            left = deadline - time.monotonic()
            if ended is not None or left <= 0:
                return ended
            with self._listening(wait=True, task_id=task_id, seconds=left) as listens:
                if not listens:
                    continue
                try:
                    replies.wait(min(left, TURN))
                    broken_since = None
                    continue
                except OperationalError as error:
                    broken_since = broken_since or time.monotonic()
                    if time.monotonic() - broken_since > PATIENCE:
                        raise BackendGetMetaError(
                            f"Results could not be received: {error}", task_id=task_id
                        ) from error
            time.sleep(min(PAUSE, max(deadline - time.monotonic(), 0.0)))

    def close(self) -> None:
        """Take what has come, and close the connections; the broker then deletes the queue."""
        if self._open is not None and self._process == os.getpid():
            with self._listening(wait=False):
                self._open.close()
                self._is_expecting = False

    def after_fork(self) -> None:
        """Begin anew: another process, another queue. Nothing of the parent's is closed by a finalizer."""
        self._inherited.append(self._open)
        self._begin()

    # -- inside --------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._process = os.getpid()
        self._open: Replies | None = None
        self._opening = threading.Lock()
        self._changed = threading.Condition()
        self._is_listened_to = False
        self._is_expecting = False
        #: by task: what came last, or why it cannot be read, and the smallest attempt that may replace it
        self._kept: OrderedDict[str, tuple[Document | DjqueueError, int]] = OrderedDict()

    def _replies(self) -> Replies:
        if self._process != os.getpid():
            self.after_fork()
        if self._open is None:
            with self._opening:
                if self._open is None:
                    self._open = open_replies(self._receive)
        return self._open

    @contextmanager
    def _listening(self, *, wait: bool, task_id: str = "", seconds: float = 0.0) -> Iterator[bool]:
        """Become the one who listens, if nobody does; else, if told to, wait for news of the task."""
        with self._changed:
            is_mine = not self._is_listened_to
            if is_mine:
                self._is_listened_to = True
            elif wait:
                self._changed.wait_for(
                    lambda: not self._is_listened_to or _if_ended(self._known(task_id)) is not None,
                    None if seconds == float("inf") else seconds,
                )
        try:
            yield is_mine
        finally:
            if is_mine:
                with self._changed:
                    self._is_listened_to = False
                    self._changed.notify_all()

    def _receive(self, task_id: str, body: bytes) -> None:
        """Keep a document that has come, unless what is kept is newer or final."""
        came: Document | DjqueueError
        try:
            came = document = meta.read(task_id, body)
            task_id = document.task_id
            attempt, may_replace = (
                document.attempt,
                fence(document.status, document.attempt, document.retries),
            )
        except DjqueueError as error:
            came, attempt, may_replace = error, 0, 0
        with self._changed:
            kept = self._kept.get(task_id)
            if kept is None or attempt >= kept[1]:
                self._kept[task_id] = came, may_replace
                self._kept.move_to_end(task_id)
                while len(self._kept) > MOST_KEPT:
                    self._kept.popitem(last=False)
                self._changed.notify_all()

    def _known(self, task_id: str) -> Document | None:
        kept = self._kept.get(task_id)
        if kept is None:
            return None
        if isinstance(kept[0], DjqueueError):
            raise kept[0]
        return kept[0]


def _reply(document: Document) -> Reply:
    assert document.reply_to is not None
    body = meta.write(document)
    if body.startswith(b"{"):
        kind, encoding = "application/json", "utf-8"
    else:
        kind, encoding = document.content_type, document.content_encoding
    known_as = document.correlation_id or document.task_id
    return Reply(document.reply_to, known_as, body, kind, encoding)


def _if_ended(document: Document | None) -> Document | None:
    return document if document is not None and document.status in states.READY_STATES else None
