"""Commands that ask: who is there, what runs, what waits, what is known and used.

Replies have the shapes that Celery's tools and Flower read.
"""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Sequence
from typing import Any

import django

from djqueue.conf import settings
from djqueue.core import protocol
from djqueue.exceptions import DjqueueError
from djqueue.messaging import brokers
from djqueue.messaging.descriptions import described_broker
from djqueue.messaging.startboard import Started
from djqueue.messaging.urls import MASK, masked
from djqueue.worker.commands.descriptions import described, due_of, waiting
from djqueue.worker.commands.state import WorkerState
from djqueue.worker.control import inspect_command
from djqueue.worker.heart import software
from djqueue.worker.ledger import Entry

#: most delayed messages that one reply shows
MOST_SHOWN = 1_000
#: options shown with the names of registered tasks when none are asked for
SHOWN_OPTIONS = ("exchange", "routing_key", "rate_limit")
#: what the names of tasks that everybody has begin with
BUILT_IN = ("celery.", "djqueue.")
#: parts of names of settings whose values are secrets
SECRETS = ("PASSWORD", "SECRET", "TOKEN", "KEY", "CREDENTIAL")


def _is_yes(text: str) -> bool:
    return text.lower() in ("1", "true", "yes", "on")


@inspect_command(default_timeout=0.2)
def ping(state: WorkerState, **_: Any) -> dict[str, str]:
    """Tell that the worker is there."""
    return {"ok": "pong"}


@inspect_command(alias="dump_active")
def active(state: WorkerState, safe: bool | None = None, **_: Any) -> list[dict[str, Any]]:
    """List the tasks that run now."""
    return [described(state, entry, started, safe=bool(safe)) for entry, started in state.running()]


@inspect_command(alias="dump_reserved")
def reserved(state: WorkerState, **_: Any) -> list[dict[str, Any]]:
    """List the tasks that were received and have not started."""
    return [described(state, entry) for entry in state.reserved()]


@inspect_command(alias="dump_schedule")
def scheduled(state: WorkerState, **_: Any) -> list[dict[str, Any]]:
    """List the tasks that wait for their time, in this worker or in the broker, soonest first."""
    found = [
        (due, waiting(state, due, entry.request, entry.delivery.message, acked=entry.acked))
        for until, entry in state.waiting_room.entries()
        for due in [due_of(entry, until)]
    ]
    for due, queue, message in state.broker.delayed(state.source.queues, MOST_SHOWN):
        try:
            request = protocol.read_headers(message, {"exchange": "", "routing_key": queue})
        except DjqueueError:
            continue  # it will be buried, with the reason, when it is due
        found.append((due, waiting(state, due, request, message)))
    return [shown for _, shown in sorted(found, key=lambda pair: pair[0])]


@inspect_command(
    alias=("dump_tasks", "registered_tasks"), variadic="taskinfoitems", signature="[attr1 [attr2 …]]"
)
def registered(
    state: WorkerState, taskinfoitems: Sequence[str] | None = None, builtins: bool = False, **_: Any
) -> list[str]:
    """List the tasks that the worker knows, with options of theirs."""
    names = sorted(name for name in state.tasks if builtins or not name.startswith(BUILT_IN))
    return [_with_options(state.tasks[name], tuple(taskinfoitems or SHOWN_OPTIONS)) for name in names]


@inspect_command
def stats(state: WorkerState, **_: Any) -> dict[str, Any]:
    """Tell counts, the pool, the broker, and what the main process uses."""
    options = state.options
    usage = resource.getrusage(resource.RUSAGE_SELF)
    told = {
        "total": dict(state.ledger.totals),
        "pid": os.getpid(),
        "clock": str(brokers.clock.value),
        "uptime": round(time.monotonic() - state.started_at),
        "pool": {
            "implementation": f"{type(state.pool).__module__}:{type(state.pool).__qualname__}",
            "max-concurrency": state.pool.size,
            "processes": state.pool.pids(),
            "max-tasks-per-child": options.max_tasks_per_child or "N/A",
            "put-guarded-by-semaphore": False,
            "timeouts": [options.soft_time_limit or 0, options.time_limit or 0],
            "writes": {"total": state.ledger.totals.total(), "strategy": "adaptive"},
        },
        "broker": described_broker(),
        "prefetch_count": options.prefetch_multiplier * state.pool.size,
        "rusage": {
            name.removeprefix("ru_"): getattr(usage, name) for name in dir(usage) if name.startswith("ru_")
        },
    }
    return told if state.autoscaler is None else told | {"autoscaler": state.autoscaler.info()}


@inspect_command(alias="dump_revoked")
def revoked(state: WorkerState, **_: Any) -> list[str]:
    """List the ids of revoked tasks."""
    return state.revocations.task_ids()


@inspect_command(alias="dump_conf", args=(("with_defaults", _is_yes),))
def conf(state: WorkerState, with_defaults: bool = False, **_: Any) -> dict[str, Any]:
    """Show the settings, secrets masked; those left at their default only when asked."""
    return {
        name.lower(): _shown_setting(name, value)
        for name, value in settings.as_dict().items()
        if with_defaults or settings.is_set(name)
    }


@inspect_command(variadic="ids", signature="[id1 [id2 …]]")
def query_task(state: WorkerState, ids: Sequence[str] | str = (), **_: Any) -> dict[str, Any]:
    """Tell where tasks are: active, reserved or scheduled."""
    wanted = {ids} if isinstance(ids, str) else set(ids)
    places: list[tuple[str, Entry, Started | None]] = [
        ("active", entry, started) for entry, started in state.running()
    ]
    places += [("reserved", entry, None) for entry in state.reserved()]
    places += [("scheduled", entry, None) for _, entry in state.waiting_room.entries()]
    return {
        entry.request.id: [place, described(state, entry, started)]
        for place, entry, started in places
        if entry.request.id in wanted
    }


@inspect_command
def clock(state: WorkerState, **_: Any) -> dict[str, int]:
    """Tell the logical clock."""
    return {"clock": brokers.clock.value}


@inspect_command(visible=False)
def hello(state: WorkerState, from_node: str, revoked: Any = None, **_: Any) -> dict[str, Any] | None:
    """Answer a worker that starts: exchange revocations and clocks."""
    if from_node == state.hostname:
        return None
    state.revocations.add(str(one) for one in revoked or ())
    return {"revoked": state.revocations.task_ids(), "clock": brokers.clock.forward()}


@inspect_command
def report(state: WorkerState, **_: Any) -> dict[str, str]:
    """Tell what is installed."""
    facts = software() | {
        "python": platform.python_version(),
        "django": django.get_version(),
        "system": platform.platform(),
        "broker": repr(state.broker),
        "pool": f"{state.options.pool} x {state.pool.size}",
    }
    return {"ok": "\n".join(f"{name}: {value}" for name, value in facts.items())}


@inspect_command
def memsample(state: WorkerState, **_: Any) -> str:
    """Tell the memory that the main process uses."""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.1f}MB"


def _with_options(task: Any, names: tuple[str, ...]) -> str:
    shown = [(name, getattr(task, name, None)) for name in names]
    text = " ".join(f"{name}={value}" for name, value in shown if value is not None)
    return f"{task.name} [{text}]" if text else str(task.name)


def _shown_setting(name: str, value: Any) -> Any:
    if any(part in name for part in SECRETS) and isinstance(value, str):
        return MASK
    if isinstance(value, str):
        return masked(value) if "://" in value else value
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(key): _shown_setting(str(key).upper(), one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_shown_setting(name, one) for one in value]
    return value if isinstance(value, int | float | bool | None) else repr(value)
