"""Passing a task on that nobody here knows: another worker of the queue may, while code is being rolled out.

A delivery comes in; the same message for later leaves, all its headers kept and one more that counts. It is
sent before the delivery is acknowledged, so that it is never nowhere.
"""

from __future__ import annotations

import time

from djqueue import states
from djqueue.conf import settings
from djqueue.core.messages import Destination, Outgoing, WireMessage
from djqueue.messaging.delivery import Delivery
from djqueue.tasks.outcome import Outcome

#: how many workers did not know the task
TIMES = "x-djq-unknown"
#: the first pause, seconds; each later one is twice as long
FIRST_PAUSE = 1.0


def passed_on(delivery: Delivery) -> tuple[Outcome, float] | None:
    """Return what sends the message once more, and in how many seconds; None: it was done often enough."""
    message = delivery.message
    times = message.headers.get(TIMES)
    times = times if isinstance(times, int) and times >= 0 else 0
    if times >= settings.TASK_UNKNOWN_REQUEUES:
        return None
    again = WireMessage(
        {**message.headers, TIMES: times + 1},
        message.properties,
        message.body,
        message.content_type,
        message.content_encoding,
    )
    pause: float = FIRST_PAUSE * 2**times
    place = Destination("", delivery.queue, delivery.queue)
    outgoing = Outgoing(again, place, time.time() + pause)
    return Outcome(states.IGNORED, follow_ups=[outgoing]), pause
