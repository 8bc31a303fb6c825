"""Puts together what lets others see and steer a worker: revocations, events, heart, remote control.

The service calls `event_stream` and `heart` while it makes the parts, and `watch_over` when they are there;
what is made becomes components, started and stopped with the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from djqueue.conf import settings
from djqueue.messaging.contract import Broker
from djqueue.messaging.postman import Postman
from djqueue.worker.commands.state import WorkerState
from djqueue.worker.components import Components
from djqueue.worker.eventstream import EventStream
from djqueue.worker.heart import Heart
from djqueue.worker.ledger import Ledger
from djqueue.worker.mingle import Mingle
from djqueue.worker.options import WorkerOptions
from djqueue.worker.pools.contract import Pool
from djqueue.worker.remote import RemoteControl
from djqueue.worker.revocations import Record

#: the names under which these are components
RECORD, EVENTS, HEART, REMOTE, MINGLE = "revocations", "events", "heart", "remote control", "mingle"
#: the type of exchange that remote control and events need
REACHES_ALL = "fanout"


def fitting(options: WorkerOptions, broker: Broker) -> WorkerOptions:
    """Return the options as this broker allows them: where nobody can listen, no events are told."""
    if REACHES_ALL in broker.capabilities.exchanges:
        return options
    return replace(options, send_events=False, heartbeat=False)


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
        every=options.heartbeat_interval,
        is_beating=options.heartbeat,
    )


def watch_over(state: WorkerState, components: Components, wake: Callable[[], None]) -> None:
    """Add the components; `wake` (any thread) makes the loop look at them."""

    def hurry(name: str) -> None:
        components.hurry(name)
        wake()

    components.add(RECORD, Record(state.broker, state.revocations))
    components.add(EVENTS, state.events)
    components.add(HEART, state.heart)
    if REACHES_ALL not in state.broker.capabilities.exchanges:
        return
    if settings.WORKER_ENABLE_REMOTE_CONTROL:
        components.add(REMOTE, RemoteControl(state, state.events.post, partial(hurry, REMOTE)))
    # The tables of a database are ours alone: what the others know stands in the record.
    if state.options.mingle and state.broker.capabilities.transactional_alias is None:
        components.add(MINGLE, Mingle(state, partial(hurry, MINGLE)))
