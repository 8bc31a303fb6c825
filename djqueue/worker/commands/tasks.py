"""Commands about tasks: do not run this one, end it, run these less often or not as long.

They change what admission and dispatch go by, in this worker until it ends; revocations are also put into
the broker's record.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from signal import Signals
from typing import Any

from djqueue.core import protocol, stamps
from djqueue.exceptions import OperationalError
from djqueue.worker import log_lines
from djqueue.worker.commands.state import WorkerState
from djqueue.worker.control import control_command

#: the signals that end a process; which one it is makes no difference to a task here
DEADLY = frozenset({"SIGTERM", "SIGKILL", "SIGINT", "SIGQUIT", "SIGHUP", "SIGABRT"})


@control_command(variadic="task_id", signature="[id1 [id2 …]]")
def revoke(
    state: WorkerState,
    task_id: str | Sequence[str],
    terminate: bool = False,
    signal: str | int | None = None,
    **_: Any,
) -> dict[str, str]:
    """Do not run these tasks; with `terminate`, kill the process of one that runs."""
    ids = _ids(task_id)
    name = _signal_name(signal)
    _remember(state, ids)
    if not terminate:
        return {"ok": f"tasks {ids} flagged as revoked"}
    ended = [
        entry.request.id
        for entry, _ in state.running()
        if entry.request.id in ids and state.dispatcher.terminate(entry, name)
    ]
    return {"ok": f"terminate: {', '.join(ended)}" if ended else "terminate: tasks unknown"}


@control_command(args=(("signal", str),), variadic="task_id", signature="<signal> [id1 [id2 …]]")
def terminate(
    state: WorkerState, signal: str | int, task_id: str | Sequence[str], **_: Any
) -> dict[str, str]:
    """Do not run these tasks, and kill the process of one that runs."""
    return revoke(state, task_id, terminate=True, signal=signal)


@control_command(variadic="headers", signature="[key1=value1 [key2=value2 …]]")
def revoke_by_stamped_headers(
    state: WorkerState,
    headers: dict[str, Any] | Sequence[str],
    terminate: bool = False,
    signal: str | int | None = None,
    **_: Any,
) -> dict[str, str]:
    """Do not run tasks that carry these stamps; with `terminate`, kill the processes of those that run."""
    wanted = stamps.named(headers)
    name = _signal_name(signal)
    _remember(state, stamps.marks(wanted))
    if not terminate:
        return {"ok": f"headers {wanted} flagged as revoked, but not terminated"}
    ended: dict[str, list[Any]] = {}
    for entry, _started in state.running():
        carried = stamps.marks_on(entry.request.stamped_headers, entry.request.stamps)
        found = [
            (header, value)
            for header, values in wanted.items()
            for value in stamps.several(values)
            if stamps.mark(header, value) in carried
        ]
        if found and state.dispatcher.terminate(entry, name):
            for header, value in found:
                if value not in ended.setdefault(header, []):
                    ended[header].append(value)
    return {"ok": f"headers {ended} revoked" if ended else f"headers {wanted} were not terminated"}


@control_command(
    args=(("task_name", str), ("rate_limit", str)), signature="<task_name> <rate_limit (e.g. 5/s, 5/m, 5/h)>"
)
def rate_limit(state: WorkerState, task_name: str, rate_limit: str | int | float, **_: Any) -> dict[str, str]:
    """Start tasks of this name no more often than so; 0: without limit."""
    try:
        known = state.admission.set_rate(task_name, rate_limit)
    except ValueError as error:
        return {"error": f"Invalid rate limit string: {error!r}"}
    if not known:
        log_lines.command_for_unknown("rate_limit", task_name)
        return {"error": "unknown task"}
    _plan_again(state, task_name)
    if not rate_limit or str(rate_limit) == "0":
        return {"ok": "rate limit disabled successfully"}
    return {"ok": "new rate limit set successfully"}


@control_command(
    args=(("task_name", str), ("soft", float), ("hard", float)),
    signature="<task_name> <soft_secs> [hard_secs]",
)
def time_limit(
    state: WorkerState, task_name: str, hard: float | None = None, soft: float | None = None, **_: Any
) -> dict[str, str]:
    """Give tasks of this name, from the next one received, other time limits in seconds."""
    for limit in (hard, soft):
        if limit is not None and not (isinstance(limit, int | float) and limit > 0):
            return {"error": f"A time limit is a number of seconds above 0; it is {limit!r}."}
    if not state.admission.set_limits(task_name, soft=soft, hard=hard):
        log_lines.command_for_unknown("time_limit", task_name)
        return {"error": "unknown task"}
    return {"ok": "time limits set successfully"}


def _plan_again(state: WorkerState, task_name: str) -> None:
    """Give the tasks that wait for the old rate their places in the new one."""
    policy = state.admission.policy(task_name)
    now = time.monotonic()
    for entry in state.waiting_room.take_out(lambda entry: entry.request.task == task_name):
        due = protocol.due_at(entry.request)
        earliest = now if due is None else now + max(due - time.time(), 0.0)
        wait = policy.bucket.take(earliest) if policy is not None and policy.bucket is not None else 0.0
        state.waiting_room.put(entry, earliest + wait)


def _remember(state: WorkerState, revoked: Iterable[str]) -> None:
    """Keep to the revocations, of tasks or stamps, and end what was received and has not started."""
    known = sorted(revoked)
    state.revocations.add(known)
    log_lines.told_to_revoke(known)
    try:
        state.broker.remember_revoked(known)
    except OperationalError as error:  # whoever hears of it keeps to it all the same
        log_lines.revocation_not_kept(str(error))
    state.dispatcher.end_revoked_unstarted(state.waiting_room)


def _ids(task_id: str | Sequence[str]) -> set[str]:
    ids = {task_id} if isinstance(task_id, str) else {str(one) for one in task_id}
    if not ids:
        raise ValueError("No task was named: give its id, or a list of ids.")
    return ids


def _signal_name(signal: str | int | None) -> str:
    """Return the name of the signal, which has to be one that ends a process.

    Raises:
        ValueError: it is not.
    """
    if signal is None:
        return "SIGTERM"
    if isinstance(signal, int) or signal.isdigit():
        name = Signals(int(signal)).name
    else:
        name = signal.upper() if signal.upper().startswith("SIG") else f"SIG{signal.upper()}"
    if name not in DEADLY:
        raise ValueError(f"{signal!r} does not end a task; give one of {', '.join(sorted(DEADLY))}.")
    return name
