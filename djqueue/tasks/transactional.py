"""`ack="transactional"`: a task's writes, its result, what follows and the end of its message, in one commit.

The child that runs the task opens the transaction, on the broker's database, and takes the message out of it
last: if that is not its worker's any more, nothing is committed. A task that fails or is retried leaves
nothing behind in that database; its end is settled by the worker, as any other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Protocol

from djqueue.exceptions import (
    BackendStoreError,
    Ignore,
    ImproperlyConfigured,
    OperationalError,
    Reject,
)
from djqueue.messaging import brokers, publisher
from djqueue.result import backends
from djqueue.tasks.completion import Completion
from djqueue.tasks.outcome import SETTLED, Outcome

#: the key in a job's delivery information; it never reaches the task
RECEIPT = "receipt"

logger = logging.getLogger("djqueue.task")


#: around the run of any other task
NOTHING = nullcontext()


def without_receipt(info: Mapping[str, Any] | None) -> tuple[str, Mapping[str, Any] | None]:
    """Return the receipt among a job's delivery information, empty if there is none, and the rest of it."""
    if not info or RECEIPT not in info:
        return "", info
    rest = dict(info)
    return str(rest.pop(RECEIPT)), rest


class TakenOver(Ignore):
    """Somebody else runs the task now; this run has no end that counts."""


class Run(Protocol):
    """One run of a task; the block makes its outcome."""

    outcome: Outcome


@contextmanager
def committing(run: Run, receipt: str) -> Iterator[None]:
    """Run the task in the block, and commit its success; `receipt` is its delivery's.

    Whatever the block raises is raised again, and undoes what it wrote.

    Raises:
        djqueue.exceptions.Reject: the database could not do it now; the message goes back to its queue.
        TakenOver: the message is not its worker's any more; nothing was committed.
        djqueue.exceptions.ImproperlyConfigured: the broker is no database.
        django.db.DatabaseError: the task cannot be committed, for instance because of a constraint.
    """
    broker = brokers.broker()
    if broker.capabilities.in_process:  # a test's: there is nothing to lose
        yield
        return
    if broker.transactions is None:
        raise ImproperlyConfigured(
            f'ack="transactional" needs the database as broker, and BROKER_URL is {broker!r}: there a message'
            " cannot be removed in the transaction that the task writes in. Set BROKER_URL to"
            " django://default, or leave the option out and let the task bear being run twice."
        )
    is_running = False
    try:
        with broker.transactions.finishing(receipt) as remove:
            is_running = True
            yield
            is_running = False
            _finish(run.outcome, remove)
    except (OperationalError, BackendStoreError) as error:
        if is_running:  # it is the task's own
            raise
        # Where the connection broke in the commit, that may have been made. Then the message is gone, which
        # the worker finds out when it gives it back.
        raise Reject(f"its transaction could not be committed: {error}", requeue=True) from error
    run.outcome = replace(run.outcome, document=None, follow_ups=[], openings=[], parts=[], settle=SETTLED)


def _finish(outcome: Outcome, remove: Callable[[], bool]) -> None:
    """Take the message out, store the result, count it, and send what follows, inside the transaction.

    A store elsewhere takes the result before the commit, as late as can be: no result is ever missing.
    """
    backend = backends.backend()
    if not remove():
        raise TakenOver("others have taken the message over")
    if outcome.document is not None:
        backend.store_many([outcome.document])
    if outcome.openings:
        backend.open_chords(outcome.openings)
    if outcome.follow_ups:
        publisher.publish(outcome.follow_ups)
    if outcome.parts and backend.counts_chords:
        completion = Completion(backend, publisher.publish, _tell_failed)
        if completion.count(outcome.parts):
            raise OperationalError("another worker is just completing the chord that the task is part of")


def _tell_failed(group_id: str, why: str) -> None:
    logger.error("The chord %s failed: %s", group_id, why)
