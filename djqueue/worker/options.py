"""What a worker was asked to be: queues, children, limits, name.

The command line and the settings come in; one frozen `WorkerOptions` leaves, checked as a whole before
anything starts, so that every mistake is told at once and none in the middle of the night.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from djqueue.conf import settings
from djqueue.core.names import node_name
from djqueue.exceptions import ImproperlyConfigured, QueueNotFound
from djqueue.messaging import brokers
from djqueue.messaging.queues import worker_direct
from djqueue.worker.pools import POOL_KINDS

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """One worker's configuration. Times in seconds, memory in KiB, None for no limit.

    `concurrency` is the pool's size at the start; `autoscale` has the most and the least that it may become.
    """

    hostname: str
    queues: tuple[str, ...]
    pool: str
    concurrency: int
    autoscale: tuple[int, int] | None
    prefetch_multiplier: int
    max_tasks_per_child: int | None
    max_memory_per_child: int | None
    time_limit: float | None
    soft_time_limit: float | None
    shutdown_grace: float | None
    loglevel: int
    logfile: Path | None = None
    pidfile: Path | None = None
    purge: bool = False
    components: tuple[str, ...] = ()
    send_events: bool = False
    heartbeat: bool = True
    heartbeat_interval: float = 2.0
    mingle: bool = True


def worker_options(given: Mapping[str, Any]) -> WorkerOptions:
    """Return the options of a worker from what was given on the command line and the settings.

    `given` has the names of the command's long flags with underscores; a missing or None value takes the
    setting. Raises `ImproperlyConfigured` with every problem found.
    """
    problems: list[str] = []
    pool = _chosen(given, "pool", settings.WORKER_POOL)
    if pool not in POOL_KINDS and "." not in pool:
        problems.append(f"--pool is {pool!r}; give one of {', '.join(POOL_KINDS)} or a dotted path.")
    hard = _limit(given, "time_limit", settings.TASK_TIME_LIMIT, problems)
    soft = _limit(given, "soft_time_limit", settings.TASK_SOFT_TIME_LIMIT, problems)
    if hard and soft and soft > hard:
        problems.append(
            f"--soft-time-limit ({soft:g} s) is longer than --time-limit ({hard:g} s) and would never be"
            " reached; make it the shorter of the two."
        )
    hostname = node_name(given.get("hostname"))
    queues = _queues(given, hostname, problems)
    bounds = _bounds(given, pool, problems)
    options = {
        "concurrency": bounds[1]
        if bounds
        else _count(given, "concurrency", settings.WORKER_CONCURRENCY or _usable_cpus(), 1, problems),
        "prefetch_multiplier": _count(
            given, "prefetch_multiplier", settings.WORKER_PREFETCH_MULTIPLIER, 0, problems
        ),
        "max_tasks_per_child": _count(
            given, "max_tasks_per_child", settings.WORKER_MAX_TASKS_PER_CHILD, 1, problems
        ),
        "max_memory_per_child": _count(
            given, "max_memory_per_child", settings.WORKER_MAX_MEMORY_PER_CHILD, 1, problems
        ),
    }
    level = _level(given, problems)
    beat = _limit(given, "heartbeat_interval", None, problems)
    if problems:
        raise ImproperlyConfigured(
            "The worker cannot start:\n" + "\n".join(f"  - {line}" for line in problems)
        )
    return WorkerOptions(
        hostname=hostname,
        queues=queues,
        pool=pool,
        autoscale=bounds,
        time_limit=hard,
        soft_time_limit=soft,
        shutdown_grace=settings.WORKER_SHUTDOWN_GRACE,
        loglevel=level,
        logfile=_path(given.get("logfile")),
        pidfile=_path(given.get("pidfile")),
        purge=bool(given.get("purge")),
        components=("beat",) if given.get("beat") else (),
        send_events=bool(given.get("task_events")) or settings.WORKER_SEND_TASK_EVENTS,
        heartbeat=not given.get("without_heartbeat"),
        heartbeat_interval=beat or 2.0,
        mingle=not given.get("without_mingle"),
        **options,  # type: ignore[arg-type]
    )


def _chosen(given: Mapping[str, Any], name: str, default: Any) -> Any:
    value = given.get(name)
    return default if value is None else value


def _count(
    given: Mapping[str, Any], name: str, default: int | None, least: int, problems: list[str]
) -> int | None:
    value: int | None = _chosen(given, name, default)
    if value is not None and value < least:
        problems.append(f"--{name.replace('_', '-')} is {value}; give {least} or more.")
    return value


def _bounds(given: Mapping[str, Any], pool: str, problems: list[str]) -> tuple[int, int] | None:
    """Return what --autoscale says: the most and the least."""
    text = given.get("autoscale")
    if not text:
        return None
    most, _, least = str(text).partition(",")
    try:
        bounds = int(most), int(least or 0)
    except ValueError:
        bounds = 0, 0
    if not 0 <= bounds[1] <= bounds[0] or bounds[0] < 1:
        problems.append(f"--autoscale is {text!r}; give the most and the least, such as 10,3.")
    if pool == "solo":
        problems.append("--autoscale needs a pool that can grow, and --pool is solo.")
    return bounds


def _limit(given: Mapping[str, Any], name: str, default: float | None, problems: list[str]) -> float | None:
    value: float | None = _chosen(given, name, default)
    if value is not None and value <= 0:
        problems.append(f"--{name.replace('_', '-')} is {value}; give seconds above 0, or leave it out.")
    return value


def _queues(given: Mapping[str, Any], hostname: str, problems: list[str]) -> tuple[str, ...]:
    """Return the names of the queues to consume: aliases stand for the queues they name."""
    unwanted = _names(given.get("exclude_queues"))
    try:
        wanted = _consumed(given)
        left = _consumed(given, unwanted)
    except QueueNotFound as error:
        problems.append(f"--queues: {error}")
        return ()
    if len(wanted) - len(left) < len(unwanted):
        problems.append(
            f"--exclude-queues names {', '.join(unwanted)}; this worker would not consume all of those anyway"
            f" (it consumes {', '.join(wanted)})."
        )
    elif not left:
        problems.append("--exclude-queues leaves no queue to consume.")
    if settings.WORKER_DIRECT:
        left = (*left, brokers.queues().add(worker_direct(hostname)).name)
    return left


def _consumed(given: Mapping[str, Any], unwanted: Sequence[str] = ()) -> tuple[str, ...]:
    queues = brokers.queues().consumed(_names(given.get("queues")), unwanted)
    return tuple(queue.name for queue in queues)


def _names(value: str | Sequence[str] | None) -> tuple[str, ...]:
    if not value:
        return ()
    parts = value.split(",") if isinstance(value, str) else list(value)
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


def _level(given: Mapping[str, Any], problems: list[str]) -> int:
    name = str(given.get("loglevel") or "INFO").upper()
    if name not in LOG_LEVELS:
        problems.append(f"--loglevel is {name}; give one of {', '.join(LOG_LEVELS)}.")
        return logging.INFO
    return logging.getLevelNamesMapping()[name]


def _path(value: str | None) -> Path | None:
    return Path(value) if value else None


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
