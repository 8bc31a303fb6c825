"""Callbacks that wait for a commit, shared by all that was sent under the same savepoints.

Django runs `on_commit` callbacks in the order they were registered. What is sent joins the callback that was
registered last, so that a thousand tasks need one, and those of other people are never overtaken.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar


class Joint:
    """A callback that many senders share. Subclasses collect what is to be done and do it when called."""

    @abstractmethod
    def __call__(self) -> None:
        """Do it: the transaction was committed."""


J = TypeVar("J", bound=Joint)

#: how far back a callback of the same kind is looked for: each sending registers at most two kinds
_LAST_FEW = 2


def join(connection: Any, kind: type[J], make: Callable[[], J]) -> J:
    """Return the callback of that kind that runs when what is done now is committed.

    `connection` is Django's, inside an atomic block. In a `TestCase` every callback stands alone: its helpers
    run those that were registered in between, and no others.
    """
    if not is_in_testcase(connection):
        savepoints = set(connection.savepoint_ids)
        for stack, callback, _ in connection.run_on_commit[: -_LAST_FEW - 1 : -1]:
            if stack != savepoints or not isinstance(callback, Joint):
                break
            if isinstance(callback, kind):
                return callback
    callback = make()
    connection.on_commit(callback)
    return callback


def is_in_testcase(connection: Any) -> bool:
    """Return whether the outermost atomic block is the one that Django's TestCase puts around a test."""
    blocks = connection.atomic_blocks
    return bool(blocks) and bool(blocks[0]._from_testcase)
