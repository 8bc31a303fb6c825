"""From what follows a task to messages: encoded here, sent by the worker together with the outcome.

Follow-ups and retries are sent through `apply_async` like everything else, so that what users override holds
for them too; a batch collects the calls, and the chords that have to be opened, on the way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from djqueue.canvas import sending
from djqueue.canvas.continuation import FollowUp
from djqueue.core.messages import Outgoing
from djqueue.exceptions import Retry
from djqueue.messaging import publisher
from djqueue.result.chords import ChordOpening


@dataclass(slots=True)
class Following:
    """Messages that leave with an outcome, and the chords to be opened before."""

    messages: list[Outgoing] = field(default_factory=list)
    openings: list[ChordOpening] = field(default_factory=list)


def collect(following: Iterable[FollowUp], retries: Iterable[Retry] = ()) -> Following:
    """Return the messages of what follows the running task; they become its children.

    Raises:
        djqueue.exceptions.EncodeError: the arguments of one cannot be written.
    """
    if not following and not retries:
        return Following()
    with sending.collecting(sending.Batch(follows=True)) as batch:
        for retry in retries:
            retry.sig.apply_async()
        for one in following:
            one.signature.apply_async(one.args, **one.options)
    return Following([publisher.prepare(call) for call in batch.calls], batch.openings)
