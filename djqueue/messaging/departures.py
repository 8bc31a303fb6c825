"""Waiting for commits: messages that must not leave before the transactions they were sent in are over.

The publisher asks which transactions are open and hands over a `Departure`; it is given back to be sent when
the last of them has committed. If any is rolled back, be it to a savepoint, the departure is never given
back, and says so when asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from djqueue.core.messages import Outgoing
from djqueue.core.retrying import ONCE, PublishPolicy
from djqueue.exceptions import ImproperlyConfigured
from djqueue.messaging.commits import Joint, is_in_testcase, join

SENT, WAITING, DROPPED = "sent", "waiting", "dropped"

Release = Callable[[Sequence["Departure"]], None]


class Departure:
    """Messages on their way out, as their sender sees them: sent, waiting, or dropped.

    `is_written` tells that the messages are part of the transaction that is waited for; `policy` is how
    often sending them is tried again; `first` is to be called before they are handed to the broker.
    """

    __slots__ = (
        "_afterwards",
        "_commits",
        "_error",
        "_first",
        "_is_sent",
        "is_written",
        "outgoing",
        "policy",
    )

    def __init__(
        self,
        outgoing: Sequence[Outgoing],
        policy: PublishPolicy = ONCE,
        first: Callable[[], None] | None = None,
    ) -> None:
        self.outgoing = outgoing
        self.policy = policy
        self._first = first
        self._afterwards: list[Callable[[], None]] = []
        self.is_written = False
        self._is_sent = False
        self._commits: Sequence[Commit] = ()
        self._error: BaseException | None = None

    @property
    def state(self) -> str:
        """Return "sent", "waiting" or "dropped"."""
        if self._is_sent:
            return SENT
        if self._error is not None or any(commit.is_dropped for commit in self._commits):
            return DROPPED
        return WAITING

    def why(self) -> str:
        """Return a sentence on why the messages have not left."""
        state = self.state
        if state == SENT:
            return "its message was sent."
        if self._error is not None:
            return f"its message could not be sent when the transaction was committed: {self._error}"
        wanted = [one for one in self._commits if one.is_dropped or (state == WAITING and not one.is_over)]
        aliases = " and ".join(dict.fromkeys(repr(commit.alias) for commit in wanted))
        if state == DROPPED:
            return (
                f"the transaction on {aliases} in which it was sent was rolled back: its message was dropped."
            )
        return (
            f"its message is sent when the transaction on {aliases} is committed. Leave the atomic block"
            " first, or send with on_commit=False."
        )

    def prepare(self) -> None:
        """Do what has to be done before the broker gets the messages."""
        if self._first is not None:
            self._first()

    def when_sent(self, then: Callable[[], None]) -> None:
        """Call `then` once the messages have left; never, if they are dropped."""
        self._afterwards.append(then)

    def mark_sent(self) -> None:
        """Note that the broker has the messages, unless they failed."""
        self._is_sent = self._error is None
        self._commits = ()
        if self._is_sent:
            afterwards, self._afterwards = self._afterwards, []
            for then in afterwards:
                then()

    def mark_failed(self, error: BaseException) -> None:
        """Note that the messages could not be handed to the broker."""
        self._error = error

    def is_free(self) -> bool:
        """Return whether every transaction that was waited for has committed."""
        return all(commit.is_over for commit in self._commits)


class Commit(Joint):
    """The commit of one transaction, and what was sent in it under the same savepoints."""

    def __init__(self, connection: BaseDatabaseWrapper, release: Release) -> None:
        self.alias = connection.alias
        self.is_over = False
        self.departures: list[Departure] = []
        self._connection = connection
        self._release = release

    def __call__(self) -> None:
        """Give back everything that waits for nothing else."""
        self.is_over = True
        departures, self.departures = self.departures, []
        free = [departure for departure in departures if departure.is_free()]
        if free:
            self._release(free)

    @property
    def is_dropped(self) -> bool:
        """Whether the transaction, or the savepoint, was rolled back."""
        # Django forgets the callbacks of what is rolled back; ours is gone without having been called.
        return not self.is_over and not any(entry[1] is self for entry in self._connection.run_on_commit)


def open_transactions(
    using: str | Iterable[str] | None = None, home: str | None = None
) -> list[BaseDatabaseWrapper]:
    """Return this thread's connections that are inside an atomic block; `using` names the only ones to ask.

    Inside a `TestCase` the blocks around the test do not count as long as the code under test opens one of
    its own; if it does not, the test's block on `home` (or else the first) stands for the transaction.

    Raises:
        djqueue.exceptions.ImproperlyConfigured: `using` names an alias that does not exist.
    """
    wanted = None if using is None else _aliases(using)
    found = [
        connection
        for connection in connections.all(initialized_only=True)
        if connection.in_atomic_block and (wanted is None or connection.alias in wanted)
    ]
    if not found or not any(map(is_in_testcase, found)):
        return found
    own = [connection for connection in found if _opened_a_block_itself(connection)]
    return own or [connection for connection in found if connection.alias == home] or found[:1]


def is_inside_transaction(alias: str) -> bool:
    """Return whether this thread is inside an atomic block on that alias, a test's own block not counted."""
    return any(
        connection.alias == alias and connection.in_atomic_block and _opened_a_block_itself(connection)
        for connection in connections.all(initialized_only=True)
    )


def commit_in_testcase() -> None:
    """Let go what waits for the blocks that a `TestCase` puts around each test, for they are never committed.

    For helpers of tests. While the code under test has a block of its own open, everything goes on waiting.
    """
    for connection in connections.all(initialized_only=True):
        if is_in_testcase(connection) and not _opened_a_block_itself(connection):
            for entry in list(connection.run_on_commit):
                if isinstance(entry[1], Commit):
                    entry[1]()


def hold(departure: Departure, transactions: Sequence[BaseDatabaseWrapper], release: Release) -> None:
    """Keep the departure until each of the transactions has committed, then call `release` with it.

    Departures of one transaction are given back together. Errors of `release` reach whoever commits.
    """
    commits = [_commit(connection, release) for connection in transactions]
    departure._commits = commits
    for commit in commits:
        commit.departures.append(departure)


def _commit(connection: BaseDatabaseWrapper, release: Release) -> Commit:
    return join(connection, Commit, lambda: Commit(connection, release))


def _opened_a_block_itself(connection: Any) -> bool:
    return any(not block._from_testcase for block in connection.atomic_blocks) or not connection.atomic_blocks


def _aliases(using: str | Iterable[str]) -> frozenset[str]:
    wanted = frozenset([using] if isinstance(using, str) else using)
    for alias in wanted:
        if alias not in connections:
            near = get_close_matches(alias, connections) or sorted(connections)
            raise ImproperlyConfigured(
                f"using={alias!r} is not an alias of DATABASES. Did you mean {' or '.join(map(repr, near))}?"
            )
    return wanted
