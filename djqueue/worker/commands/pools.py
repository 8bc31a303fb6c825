"""Commands about the pool: more children, fewer, other bounds for the autoscaler, new children for all.

What runs is never cut short by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from djqueue.conf import settings
from djqueue.core.registry import load_module, module_of
from djqueue.worker import log_lines
from djqueue.worker.commands.state import WorkerState
from djqueue.worker.control import control_command


@control_command(args=(("n", int),), signature="[N=1]")
def pool_grow(state: WorkerState, n: int = 1, **_: Any) -> dict[str, str]:
    """Run so many more tasks at a time."""
    return _resize(state, "pool_grow", n)


@control_command(args=(("n", int),), signature="[N=1]")
def pool_shrink(state: WorkerState, n: int = 1, **_: Any) -> dict[str, str]:
    """Run so many tasks fewer at a time; what runs ends first."""
    return _resize(state, "pool_shrink", n)


@control_command(args=(("max", int), ("min", int)), signature="[max [min]]")
def autoscale(
    state: WorkerState,
    max: int | None = None,  # noqa: A002  (Celery's names)
    min: int | None = None,  # noqa: A002
    **_: Any,
) -> dict[str, str]:
    """Set other bounds for a worker that runs with --autoscale."""
    if state.autoscaler is None:
        raise ValueError("Autoscale not enabled")
    most, least = state.autoscaler.update(
        None if max is None else _count("max", max, 0), None if min is None else _count("min", min, 0)
    )
    return {"ok": f"autoscale now max={most} min={least}"}


@control_command
def pool_restart(
    state: WorkerState,
    modules: Sequence[str] | None = None,
    reload: bool = False,
    reloader: Any = None,
    **_: Any,
) -> dict[str, str]:
    """Replace all children, each after what it runs; with `reload`, by some that run the code as it is now.

    `modules` are imported first; without any, those that declare tasks are meant.
    """
    if not settings.WORKER_POOL_RESTARTS:
        raise ValueError("Pool restarts not enabled")
    if reloader is not None:
        raise ValueError("A reloader cannot be sent; leave it out.")
    names = _modules_of_tasks(state) if modules is None else list(modules)
    for name in names:
        load_module(name, again=bool(reload))
    state.admission.forget_policies()
    state.pool.restart(names, reload=bool(reload))
    log_lines.pool_restarted(names if reload or modules else ())
    return {"ok": "reload started"}


def _resize(state: WorkerState, command: str, n: Any) -> dict[str, str]:
    if state.autoscaler is not None:
        return {"error": f"{command} is not supported with autoscale. Adjust autoscale range instead."}
    by = _count("n", n, 1)
    if command == "pool_grow":
        state.pool.grow(by)
    else:
        state.pool.shrink(by)
        by = -by
    log_lines.scaled(by, state.pool.size)
    return {"ok": "pool will grow" if by > 0 else "pool will shrink"}


def _count(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value!r}; give a number of at least {least}.")
    return value


def _modules_of_tasks(state: WorkerState) -> list[str]:
    modules = {module_of(task) or "" for task in state.tasks.values()}
    return sorted(module for module in modules if module and not module.startswith("djqueue."))
