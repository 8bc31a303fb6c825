"""The seam to brokers: what a transport must be able to do.

A `Broker` sends and answers questions about queues; the `Source` it makes receives for one worker, with
two verbs on the hot path: receive up to *n*, settle many. What a transport cannot do it says with a
capability flag, and a system check names it to the user. `brokers.py` picks the implementation by URL.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from djqueue.core.messages import Outgoing, WireMessage
from djqueue.core.retrying import PublishPolicy
from djqueue.exceptions import OperationalError
from djqueue.messaging.delivery import Delivery, Settlement
from djqueue.messaging.urls import masked

#: `watch(fileobj, callback)`: call back when the file becomes readable.
Watch = Callable[[Any, Callable[[], None]], None]


@dataclass(slots=True, frozen=True)
class Capabilities:
    """What a transport can do; checks and docs read these flags.

    `delays`: keeps a message until it is due. `counts_starts`: remembers crashes across workers.
    `keeps_dead_letters`: buried messages can be looked at. `transactional_alias`: the Django database
    alias whose transactions the broker's writes are part of, or None. `in_process`: the queue dies with
    the process. `fences`: a lost delivery's late settlement is refused.
    """

    delays: bool = False
    counts_starts: bool = False
    keeps_dead_letters: bool = False
    fences: bool = False
    in_process: bool = False
    transactional_alias: str | None = None


class Problem(NamedTuple):
    """Something a system check should say: an id, a `logging` level, what is wrong, and what to do."""

    id: str
    level: int
    message: str
    hint: str


class Broker(ABC):
    """A connection to one broker, shared by the whole process.

    Safe to use from several threads. After a fork the child calls `after_fork` before anything else.
    """

    capabilities: Capabilities

    def __init__(self, url: str) -> None:
        self.url = url

    def __repr__(self) -> str:
        return masked(self.url)

    @abstractmethod
    def send_many(self, outgoing: Sequence[Outgoing]) -> None:
        """Publish the messages, in order; return when the broker has accepted all of them.

        Raises:
            djqueue.exceptions.OperationalError: the broker could not be reached or refused.
        """

    def send_patiently(self, outgoing: Sequence[Outgoing], policy: PublishPolicy) -> None:
        """Publish as `send_many` does, and try again as the policy says while the broker cannot be reached.

        A broker that can tell a repeated message from a new one overrides this, so that none is sent twice.
        """
        pauses = policy.pauses()
        last_try_at = time.monotonic() + policy.timeout
        while True:
            try:
                self.send_many(outgoing)
                return
            except OperationalError:
                pause = next(pauses, None)
                if pause is None or time.monotonic() + pause > last_try_at:
                    raise
            time.sleep(pause)

    @abstractmethod
    def source(self, queues: Sequence[str], consumer: str) -> Source:
        """Return a source that receives from `queues` for the worker called `consumer`."""

    @abstractmethod
    def size(self, queue: str) -> int:
        """Return how many messages wait in `queue`, those not yet due included."""

    @abstractmethod
    def purge(self, queue: str) -> int:
        """Delete what waits in `queue`, and return how many messages that were."""

    def remember_revoked(self, task_ids: Sequence[str]) -> None:
        """Keep for workers, those that are not up as well, that these tasks must not run.

        Messages of theirs that wait for their time become due, so that a worker ends them now. A broker that
        cannot does nothing: then only the workers that hear of it know.
        """

    def revoked_since(self, moment: float) -> list[tuple[str, float]]:
        """Return the tasks revoked after `moment`, each with when that was (seconds since the epoch)."""
        return []

    def delayed(self, queues: Sequence[str], most: int) -> list[tuple[float, str, WireMessage]]:
        """Return up to `most` messages that wait for their time, soonest first: due, queue, message."""
        return []

    def leave_thread(self) -> None:
        """Close what this thread has open for itself; a thread other than the main one calls it last."""

    def problems(self) -> list[Problem]:
        """Return what `manage.py check` should say of this broker and the settings it meets."""
        return []

    def start_board_path(self, consumer: str) -> Path | None:
        """Return where the record of started jobs should live so that survivors can read it.

        None: nobody outside the worker reads it, memory will do.
        """
        return None

    def after_fork(self) -> None:
        """Forget inherited connections without touching the wire (called in the child)."""

    def close(self) -> None:
        """Close what is open. May be called twice; the broker can be used again afterwards."""


class Source(ABC):
    """One worker's consumer. Used from one thread only, the worker's loop.

    Life: `open`, then `receive`, `settle` and `tend` as often as needed, `close`.

    `on_buried` is told of the messages that the source itself put aside as dead letters, with the reason;
    the worker sets it before `open`.
    """

    on_buried: Callable[[list[Delivery], str], None] | None = None

    @abstractmethod
    def open(self, watch: Watch, wake: Callable[[], None]) -> None:
        """Register as a consumer. Whenever messages may have arrived, `wake` is called.

        The source hands the files it wants watched to `watch`; their callback may end in `wake()`.
        """

    @abstractmethod
    def receive(self, room: int) -> list[Delivery]:
        """Return up to `room` due messages, oldest first within a priority; never blocks.

        A message that cannot be read is buried by the source itself and not returned.
        """

    @abstractmethod
    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Carry the answers out, all or none, and return the deliveries that were no longer ours."""

    @abstractmethod
    def tend(self, now: float) -> float:
        """Do what is due in the background: stay alive, take over from the dead, look for due messages.

        `now` is `time.monotonic()`. Returns in how many seconds it wants to be called again.
        """

    def together(self) -> AbstractContextManager[Any]:
        """Return a context in which results, follow-ups and settlements commit as one, if they can."""
        return nullcontext()

    @abstractmethod
    def close(self) -> None:
        """Give back everything unsettled, uncounted, and leave. May be called twice."""
