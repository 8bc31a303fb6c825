"""Puts together what lets others see and steer a worker: revocations, events, heart, remote control.

The service calls `event_stream` and `heart` while it makes the parts, and `watch_over` when they are there;
what is made becomes components, started and stopped with the others.
"""

from __future__ import annotations

from collections.abc import Callable

from djqueue.conf import settings
from djqueue.messaging.postman import Postman
from djqueue.worker.commands.state import WorkerState
from djqueue.worker.components import Components
from djqueue.worker.eventstream import EventStream
from djqueue.worker.heart import Heart
from djqueue.worker.ledger import Ledger
from djqueue.worker.options import WorkerOptions
from djqueue.worker.pools.contract import Pool
from djqueue.worker.remote import RemoteControl
from djqueue.worker.revocations import Record

#: the names under which these are components
RECORD, EVENTS, HEART, REMOTE = "revocations", "events", "heart", "remote control"


def event_stream(options: WorkerOptions, components: Components) -> EventStream:
    """Return the worker's way to tell events."""
    return EventStream(
        options.hostname,
        Postman(options.hostname),
        lambda: components.hurry(EVENTS),
        is_on=options.send_events,
    )


def heart(options: WorkerOptions, events: EventStream, pool: Pool, ledger: Ledger) -> Heart:
    """Return what tells monitors that the worker lives."""
    return Heart(
        events,
        lambda: (sum(1 for _ in pool.running()), ledger.totals.total()),
        is_beating=options.heartbeat,
    )


def watch_over(state: WorkerState, components: Components, wake: Callable[[], None]) -> None:
    """Add the components; `wake` (any thread) makes the loop look at them."""

    def hurry() -> None:
        components.hurry(REMOTE)
        wake()

    components.add(RECORD, Record(state.broker, state.revocations))
    components.add(EVENTS, state.events)
    components.add(HEART, state.heart)
    if settings.WORKER_ENABLE_REMOTE_CONTROL:
        components.add(REMOTE, RemoteControl(state, state.events.post, hurry))
