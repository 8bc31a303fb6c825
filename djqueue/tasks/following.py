"""From what follows a task to messages: encoded here, sent by the worker together with the outcome.

Follow-ups and retries are sent through `apply_async` like everything else, so that what users override holds
for them too; the request's outbox collects the calls on the way.
"""

from __future__ import annotations

from collections.abc import Iterable

from djqueue.canvas.continuation import FollowUp
from djqueue.core.messages import Outgoing
from djqueue.core.requests import Request
from djqueue.exceptions import Retry
from djqueue.messaging import publisher


def collect(request: Request, following: Iterable[FollowUp], retries: Iterable[Retry] = ()) -> list[Outgoing]:
    """Return the messages of what follows the running request; they become its children.

    Raises:
        djqueue.exceptions.EncodeError: the arguments of one cannot be written.
    """
    if not following and not retries:
        return []
    request.outbox = []
    try:
        for retry in retries:
            retry.sig.apply_async()
        for one in following:
            one.signature.apply_async(one.args, **one.options)
        return [publisher.prepare(call) for call in request.outbox]
    finally:
        request.outbox = None
