"""Commands about the worker itself: events on and off, a heartbeat, stop.

Each returns the words that Celery's workers use.
"""

from __future__ import annotations

from typing import Any

from djqueue.worker.commands.state import WorkerState
from djqueue.worker.control import NO_REPLY, control_command

#: the time between heartbeats that an extra one announces, seconds (Celery's)
EXTRA_BEAT = 5.0


@control_command
def enable_events(state: WorkerState, **_: Any) -> dict[str, str]:
    """Send events about tasks."""
    if state.events.is_on:
        return {"ok": "task events already enabled"}
    state.events.is_on = True
    return {"ok": "task events enabled"}


@control_command
def disable_events(state: WorkerState, **_: Any) -> dict[str, str]:
    """Stop sending events about tasks."""
    if not state.events.is_on:
        return {"ok": "task events already disabled"}
    state.events.is_on = False
    return {"ok": "task events disabled"}


@control_command
def heartbeat(state: WorkerState, **_: Any) -> None:
    """Send a heartbeat now."""
    state.heart.beat(EXTRA_BEAT)


@control_command(replies=False)
def shutdown(state: WorkerState, **_: Any) -> Any:
    """Stop as after TERM: what runs may end within the grace period. There is no reply."""
    state.stop("remote_control")
    return NO_REPLY
