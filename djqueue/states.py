"""The states a task goes through, and the sets and the order they form.

Everyone who reads or writes a state imports its name from here. The names are Celery's, because results
are shared with Celery; any other upper-case word is a custom state, such as PROGRESS, and is not ready.
"""

from __future__ import annotations

from typing import Any

PENDING = "PENDING"  #: nothing is known: not sent, waiting, or an unknown id
RECEIVED = "RECEIVED"  #: a worker took the message
STARTED = "STARTED"  #: user code runs
SUCCESS = "SUCCESS"  #: it returned
FAILURE = "FAILURE"  #: it raised, and will not be tried again
REVOKED = "REVOKED"  #: cancelled or expired before it ended
REJECTED = "REJECTED"  #: the task refused its message; never stored
RETRY = "RETRY"  #: it failed and will be tried again
IGNORED = "IGNORED"  #: the task asked for no state at all; never stored

READY_STATES = frozenset({SUCCESS, FAILURE, REVOKED})
UNREADY_STATES = frozenset({PENDING, RECEIVED, STARTED, REJECTED, RETRY})
EXCEPTION_STATES = frozenset({RETRY, FAILURE, REVOKED})
PROPAGATE_STATES = frozenset({FAILURE, REVOKED})
ALL_STATES = frozenset({PENDING, RECEIVED, STARTED, SUCCESS, FAILURE, RETRY, REVOKED})

#: From the highest to the lowest; None stands for every custom state.
PRECEDENCE = (SUCCESS, FAILURE, None, REVOKED, STARTED, RECEIVED, REJECTED, RETRY, PENDING)

_RANK = {name: rank for rank, name in enumerate(PRECEDENCE)}


def precedence(name: Any) -> int:
    """Return the rank of a state: 0 is the highest, and custom states share one rank."""
    return _RANK.get(name, _RANK[None])


class state(str):
    """A state that compares by precedence: `state(STARTED) > state(PENDING)`.

    Equality stays that of the text.
    """

    __slots__ = ()

    def __gt__(self, other: object) -> bool:
        return precedence(self) < precedence(other)

    def __ge__(self, other: object) -> bool:
        return precedence(self) <= precedence(other)

    def __lt__(self, other: object) -> bool:
        return precedence(self) > precedence(other)

    def __le__(self, other: object) -> bool:
        return precedence(self) >= precedence(other)
