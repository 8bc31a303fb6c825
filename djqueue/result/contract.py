"""The seam to result stores: what a backend must be able to do.

Workers store many documents at once; callers fetch, wait and forget. Backends arrive by alias, URL scheme
or dotted path (`result/backends.py`); the ORM store lives in the app djqueue_results.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from threading import Event
from typing import Any

from djqueue import states
from djqueue.messaging.contract import Source
from djqueue.messaging.delivery import Delivery, Settlement
from djqueue.result.chords import ChordCount, ChordOpening, ChordPart
from djqueue.result.documents import Document
from djqueue.result.memory import Memory
from djqueue.result.pauses import Pauses

SettleWith = Callable[[Sequence[Document], Sequence[Settlement]], list[Delivery] | None]

#: how long a process has a complete chord to itself, seconds; if it dies, others take over afterwards
CLAIMED = 15.0


class GroupStore:
    """The part of a store that has to do with groups and chords. What it cannot do it need not define."""

    #: chords are counted here; elsewhere a task asks again and again whether a header has ended
    counts_chords: bool = False
    #: where it counts: parts are not kept for that but read from their documents, and none can be added
    joins_documents: bool = False

    def check_chords(self) -> None:
        """Do nothing if chords can be completed with this store.

        Raises:
            NotImplementedError: only the sender can read its results, or nobody.
        """

    def save_group(self, group_id: str, members: Any) -> None:
        """Keep a group as `GroupResult.as_tuple` describes it, for RESULT_EXPIRES."""
        raise NotImplementedError(f"{self.as_uri()} cannot keep groups.")

    def restore_group(self, group_id: str) -> Any:
        """Return what `save_group` kept, or None."""
        raise NotImplementedError(f"{self.as_uri()} cannot keep groups.")

    def delete_group(self, group_id: str) -> None:
        """Forget the group; one that is not kept is fine."""
        raise NotImplementedError(f"{self.as_uri()} cannot keep groups.")

    def open_chords(self, openings: Sequence[ChordOpening]) -> None:
        """Note how many parts each chord has, before the first of them is sent; or that one is added.

        Stores that do not count have nothing to note. Raises `BackendStoreError`.
        """

    def count_parts(self, parts: Sequence[ChordPart]) -> list[ChordCount]:
        """Count the parts, each once however often it comes, and return the chords that are complete now.

        A chord is given to one process at a time: until `close_chords`, or for `CLAIMED` seconds, others
        are told that somebody has it. Parts of chords that are closed or unknown are passed over.
        Raises `BackendStoreError`.
        """
        return []

    def close_chords(self, group_ids: Sequence[str]) -> None:
        """Forget chords whose bodies were sent, or failed; parts that still come are passed over."""

    def as_uri(self) -> str:
        """Return the store's address with passwords masked."""
        return type(self).__name__


class ResultBackend(GroupStore, ABC):
    """A place where documents are kept. Safe to use from several threads."""

    #: the store deletes expired documents by itself
    expires_by_itself: bool = False
    #: `wait` is woken by the store instead of asking again and again
    wakes_waiters: bool = False
    #: Django database alias the documents live in, or None: a broker on the same alias commits with them
    transactional_alias: str | None = None
    #: any process may read what is stored, not only the one that sent the task
    is_shared: bool = True
    #: states and results are really kept (False only for the disabled store)
    keeps: bool = True
    #: documents are kept as RESULT_COMPRESSION says
    compresses: bool = False
    #: failures are kept for RESULT_FAILURE_EXPIRES
    parts_failures: bool = False

    @property
    def persists(self) -> bool:
        """What is stored is still there when this project's processes, and the store's server, restart."""
        return self.keeps and self.is_shared

    def expect_results(self) -> None:
        """Be told, before the first task is sent, that this process may ask for results.

        Raises:
            djqueue.exceptions.OperationalError: what they come through could not be made ready.
        """

    @abstractmethod
    def store_many(self, documents: Sequence[Document]) -> None:
        """Keep the documents; of several for one task the last wins.

        A document older than the stored one (by `attempt`), and any change of a terminal state within
        the same attempt, is ignored. Raises `BackendStoreError` when the store cannot be written.
        """

    def settling_with(self, source: Source) -> SettleWith | None:
        """Return a function that stores and settles in one step, if the store and that source can.

        It takes documents and settlements and returns the deliveries that were no longer ours, as
        `Source.settle` does; or None when these are too many or too large for one step, and nothing was done.
        Nothing is settled unless all is stored. Raises as `store_many` and `settle` do.
        """
        return None

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

        This implementation asks when `waking` says so; where it does not, again and again, from every 10 ms
        up to every 250 ms (or `interval`).
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        document = self._ended(task_id)
        if document is not None or time.monotonic() >= deadline:
            return document
        woken, pauses = Event(), Pauses(interval)
        with self.waking(task_id, woken.set) as is_certain:
            while document is None and (left := deadline - time.monotonic()) > 0:
                woken.wait(min(pauses.next(is_certain()), left))
                woken.clear()
                document = self._ended(task_id)
        return document

    def waking(self, task_id: str, wake: Callable[[], None]) -> AbstractContextManager[Callable[[], bool]]:
        """Call `wake`, from any thread, whenever the task may have ended while the context is open.

        The context gives a function that tells whether that is certain by now; as long as it is not, the
        caller has to look by himself. May be entered and left in an event loop: it does not block.
        """
        return nullcontext(lambda: False)

    def _ended(self, task_id: str) -> Document | None:
        document = self.fetch(task_id)
        return document if document is not None and document.status in states.READY_STATES else None

    def close(self) -> None:
        """Close what is open. May be called twice; the backend can be used again afterwards."""

    def after_fork(self) -> None:
        """Forget inherited connections without touching the wire (called in the child)."""

    def __init__(self, url: str = "", **options: Any) -> None:
        self.url = url
        self.options = options
        #: results that were read from this store
        self.memory = Memory()
