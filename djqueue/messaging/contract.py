"""The seam to brokers: what a transport must be able to do.

A `Broker` sends and answers questions about queues; the `Source` it makes receives for one worker, with
two verbs on the hot path: receive up to *n*, settle many. What a transport cannot do it says with a
capability flag, and a system check names it to the user. `brokers.py` picks the implementation by URL.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
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
    the process. `fences`: a lost delivery's late settlement is refused. `exchanges`: the types of exchanges
    it knows. `redelivers`: what a killed worker held comes back. `keeps_order`: the messages of one queue and
    priority come in the order in which they were sent. `by_age`: so do those of several queues; otherwise the
    queues take turns. `shortest_delay`: what is due in fewer seconds is handed out at once, and the worker
    holds it. `keeps_unconsumed_delays`: delays are kept also in queues that no djqueue worker consumes;
    otherwise whoever comes is handed the message, and puts it off. `has_one_writer`: a transaction that is
    open may keep everybody else from writing.
    """

    delays: bool = False
    counts_starts: bool = False
    keeps_dead_letters: bool = False
    fences: bool = False
    in_process: bool = False
    transactional_alias: str | None = None
    exchanges: frozenset[str] = frozenset({"direct", "topic", "fanout"})
    redelivers: bool = True
    keeps_order: bool = True
    by_age: bool = False
    shortest_delay: float = 1.0
    keeps_unconsumed_delays: bool = False
    has_one_writer: bool = False


class Reply(NamedTuple):
    """A result on its way to the queue called `address`, where it is known by `correlation_id`."""

    address: str
    correlation_id: str
    body: bytes
    content_type: str
    content_encoding: str


class Replies(ABC):
    """Results as messages: to the queues of others, and from this process's own.

    `send` may be called from several threads, the rest from one at a time. `on_reply` gets the correlation
    id (or "") and the body of each reply to this process, in the thread that takes it. All raise
    `djqueue.exceptions.OperationalError` when the broker cannot be reached; what was under way may be lost.
    """

    def __init__(self, on_reply: Callable[[str, bytes], None]) -> None:
        self.on_reply = on_reply

    @abstractmethod
    def send(self, replies: Sequence[Reply]) -> None:
        """Publish, in order. A queue that is gone has nobody who waits: that is no error."""

    @abstractmethod
    def declare(self) -> None:
        """Make sure that this process's queue is there; what comes stays in it until somebody looks."""

    @abstractmethod
    def collect(self) -> None:
        """Take all that has come by now."""

    @abstractmethod
    def wait(self, seconds: float) -> None:
        """Take what is there or comes, until something came or so many seconds have passed."""

    @abstractmethod
    def close(self) -> None:
        """Take what has come, and close. May be called twice; it can be used again, with a new queue."""


class Problem(NamedTuple):
    """Something a system check should say: an id, a `logging` level, what is wrong, and what to do."""

    id: str
    level: int
    message: str
    hint: str


class Transactions(ABC):
    """What a broker can do whose messages are rows of a Django database, on `transactional_alias`.

    `has_one_writer`: while somebody's transaction is open nobody else can write, not even beside it.
    """

    has_one_writer: bool

    @abstractmethod
    def beside(self) -> AbstractContextManager[None]:
        """Return a context in which this thread sends outside of the transaction that is open."""

    @abstractmethod
    def finishing(self, receipt: str) -> AbstractContextManager[Callable[[], bool]]:
        """Return a transaction in which a task runs and takes its own message out of the broker.

        `receipt` is that of the delivery. The block is given a function, to be called last, that removes the
        message and returns whether it was still its holder's; if not, nothing must be committed.

        Raises:
            djqueue.exceptions.OperationalError: the database cannot begin, or could not commit, now.
        """


class Broker(ABC):
    """A connection to one broker, shared by the whole process.

    Safe to use from several threads. After a fork the child calls `after_fork` before anything else.
    """

    capabilities: Capabilities
    #: for a broker whose messages are rows of a Django database
    transactions: Transactions | None = None
    #: transport options with which kombu connects here, under BROKER_TRANSPORT_OPTIONS; None: the usual ones
    kombu_defaults: Mapping[str, Any] | None = None

    def __init__(self, url: str) -> None:
        self.url = url
        #: what kombu's `Connection` needs to connect as this broker does, beside URL and options
        self.kombu_arguments: dict[str, Any] = {}

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

    def send_once(self, outgoing: Sequence[Outgoing], name: str) -> None:
        """Publish as `send_many` does, unless messages were published under this name some minutes ago.

        A broker that cannot tell publishes them.
        """
        self.send_many(outgoing)

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

    def replies(self, on_reply: Callable[[str, bytes], None]) -> Replies | None:
        """Return the transport's own way to carry results as messages; None: kombu's will do."""
        return None

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

    Life: `open`, then `receive`, `settle` and `tend` as often as needed, `close`. While it is open, queues
    come and go by `add_queue` and `cancel_queue`; it may come down to none, and then receives nothing.

    `queues` names what is consumed now, in the order in which it was asked for. `on_buried` is told of the
    messages that the source itself put aside as dead letters, with the reason; the worker sets it before
    `open`. So is `most_held`, which also changes with the size of the pool: a source that fetches in advance
    has no more in hand (None: no limit).
    """

    queues: tuple[str, ...]
    on_buried: Callable[[list[Delivery], str], None] | None = None
    most_held: int | None = None

    @abstractmethod
    def open(self, watch: Watch, wake: Callable[[], None]) -> None:
        """Register as a consumer. Whenever messages may have arrived, `wake` is called.

        The source hands the files it wants watched to `watch`; their callback may end in `wake()`. If this
        fails, nothing of the source is left, neither here nor in the broker, and it cannot be used any more.

        Raises:
            djqueue.exceptions.OperationalError: the broker could not be reached, or refused.
        """

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Close the source again if the block, which opens it, fails."""
        try:
            yield
        except BaseException:
            with suppress(OperationalError):  # the first error says what is wrong
                self.close()
            raise

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

    @abstractmethod
    def add_queue(self, queue: str) -> None:
        """Receive from `queue` as well from now on, and wake the worker; a queue that is consumed is fine.

        Raises:
            djqueue.exceptions.ImproperlyConfigured: the queue is not ours to consume.
            djqueue.exceptions.OperationalError: the broker could not be reached; nothing has changed.
        """

    @abstractmethod
    def cancel_queue(self, queue: str) -> None:
        """Receive nothing more from `queue`; a queue that is not consumed is fine.

        What was handed out stays in hand and is settled as ever. What the source had fetched and not handed
        out goes back, uncounted.

        Raises:
            djqueue.exceptions.OperationalError: the broker could not be reached; nothing has changed.
        """

    def together(self) -> AbstractContextManager[Any]:
        """Return a context in which results, follow-ups and settlements commit as one, if they can."""
        return nullcontext()

    @abstractmethod
    def close(self) -> None:
        """Give back everything unsettled, uncounted, and leave. May be called twice."""
