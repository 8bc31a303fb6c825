"""Every line the worker can print, with its level and its wording, and nothing else.

Lines about one task read as Celery's do, so that people's log searches keep working. Lines about the
worker start with a stable event name (`djq.child.lost`) followed by key=value pairs; tests and alerts match
those names. Whatever came from outside is escaped and capped by `escape`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from djqueue.log import escape, escape_block

logger = logging.getLogger("djqueue.worker")


def wants_task_lines() -> bool:
    """Return whether the lines of successful tasks go anywhere (asked before their text is made)."""
    return logger.isEnabledFor(logging.INFO)


def banner(hostname: str, facts: Iterable[tuple[str, str]], tasks: Iterable[str]) -> str:
    """Return what the worker prints when it starts."""
    lines = [f"djqueue worker {escape(hostname)}", ""]
    lines += [f"  {name + ':':<13}{escape(value)}" for name, value in facts]
    lines += ["", "  tasks:"]
    lines += [f"    {escape(name)}" for name in tasks]
    return "\n".join([*lines, ""])


def ready(hostname: str) -> None:
    logger.info("djq.worker.ready worker=%s", escape(hostname))


def stopping(signal_name: str, running: int, grace: float | None) -> None:
    grace_text = "none" if grace is None else f"{grace:g}s"
    logger.info("djq.worker.stopping signal=%s running=%d grace=%s", signal_name, running, grace_text)


def grace_over(running: int) -> None:
    logger.warning("djq.worker.grace_over given_back=%d", running)


def stopped(hostname: str, done: int) -> None:
    logger.info("djq.worker.stopped worker=%s tasks_done=%d", escape(hostname), done)


def received(name: str, task_id: str) -> None:
    logger.info("Task %s[%s] received", escape(name), escape(task_id))


def succeeded(name: str, task_id: str, runtime: float, result: str) -> None:
    logger.info("Task %s[%s] succeeded in %.6fs: %s", escape(name), escape(task_id), runtime, escape(result))


def failed(name: str, task_id: str, error: str, traceback: str | None) -> None:
    logger.error(
        "Task %s[%s] raised unexpected: %s\n%s",
        escape(name),
        escape(task_id),
        escape(error),
        escape_block(traceback or ""),
    )


def failed_as_expected(name: str, task_id: str, error: str) -> None:
    logger.info("Task %s[%s] raised expected: %s", escape(name), escape(task_id), escape(error))


def retried(name: str, task_id: str, why: str) -> None:
    logger.info("Task %s[%s] retry: %s", escape(name), escape(task_id), escape(why))


def ignored(name: str, task_id: str) -> None:
    logger.info("Task %s[%s] ignored", escape(name), escape(task_id))


def rejected(name: str, task_id: str, why: str) -> None:
    logger.warning("Task %s[%s] rejected: %s", escape(name), escape(task_id), escape(why))


def revoked(name: str, task_id: str, why: str) -> None:
    logger.info("Task %s[%s] revoked: %s", escape(name), escape(task_id), escape(why))


def unknown(name: str, task_id: str) -> None:
    logger.error(
        "Received unregistered task %s[%s]: no module of this worker declares it. Is its app in"
        " INSTALLED_APPS, and is the worker's code as new as the sender's?",
        escape(name),
        escape(task_id),
    )


def passed_on(name: str, task_id: str, pause: float) -> None:
    logger.warning(
        "djq.unknown task=%s[%s] requeued_for=%gs: no module of this worker declares it",
        escape(name),
        escape(task_id),
        pause,
    )


def child_lost(cause: str, name: str, task_id: str, starts: int) -> None:
    logger.error(
        "djq.child.lost cause=%s task=%s[%s] starts=%d", escape(cause), escape(name), escape(task_id), starts
    )


def hard_limit(name: str, task_id: str, limit: float) -> None:
    logger.error("djq.limit.hard task=%s[%s] limit=%gs", escape(name), escape(task_id), limit)


def dead(reason: str, task_id: str, queue: str, detail: str) -> None:
    logger.error(
        "djq.dead reason=%s id=%s queue=%s detail=%s", reason, escape(task_id), escape(queue), escape(detail)
    )


def chord_failed(group_id: str, why: str) -> None:
    logger.error("djq.chord.failed group=%s error=%s", escape(group_id), escape(why))


def lost_lease(task_id: str, queue: str) -> None:
    logger.warning("djq.lost_lease id=%s queue=%s", escape(task_id), escape(queue))


def results_deferred(waiting: int, error: str) -> None:
    logger.error("djq.result.deferred waiting=%d error=%s", waiting, escape(error))


def results_stored(waited: float) -> None:
    logger.info("djq.result.stored after_s=%.1f", waited)


def broker_lost(error: str) -> None:
    logger.error("djq.broker.lost error=%s", escape(error))


def broker_awaited(error: str, pause: float) -> None:
    logger.warning("djq.broker.awaited again_in=%gs error=%s", pause, escape(error))


def broker_restored(waited: float) -> None:
    logger.info("djq.broker.restored after_s=%.1f", waited)


def component_failed(name: str, error: str) -> None:
    logger.error("djq.component.failed component=%s error=%s", name, escape(error))


def nursery_lost(error: str) -> None:
    logger.critical("djq.nursery.lost error=%s", escape(error))


def child_ended(cause: str) -> None:
    logger.error("djq.child.ended cause=%s", escape(cause))


def child_not_made(why: str, pause: float) -> None:
    logger.error("djq.child.not_made why=%s next_try=%gs", escape(why), pause)


def scaled(by: int, size: int) -> None:
    logger.info("djq.pool.scaled by=%+d size=%d", by, size)


def module_not_loaded(name: str, error: str) -> None:
    logger.error("djq.pool.not_loaded module=%s error=%s", escape(name), escape(error))


def child_late(pid: int, seconds: float) -> None:
    logger.warning("djq.child.late pid=%d not_ready_after=%gs", pid, seconds)


def soft_limit(name: str, task_id: str, limit: float) -> None:
    logger.warning("djq.limit.soft task=%s[%s] limit=%gs", escape(name), escape(task_id), limit)


def pool_restarted(modules: Iterable[str]) -> None:
    logger.info("djq.pool.restarted modules=%s", escape(",".join(modules)) or "none")


def consumes(queues: Iterable[str]) -> None:
    logger.info("djq.control.consumes queues=%s", escape(",".join(queues)) or "none")


def mingled(nodes: Iterable[str], revoked: int) -> None:
    logger.info("djq.mingle.done nodes=%s newly_revoked=%d", escape(",".join(nodes)) or "none", revoked)


def not_mingled(error: str) -> None:
    logger.warning("djq.mingle.failed error=%s", escape(error))


def told_to_revoke(ids: Iterable[str]) -> None:
    logger.info("djq.control.revoked tasks=%s", escape(",".join(ids)))


def revocation_not_kept(error: str) -> None:
    logger.warning("djq.control.not_kept error=%s", escape(error))


def command_for_unknown(command: str, name: str) -> None:
    logger.error("djq.control.unknown_task command=%s task=%s", command, escape(name))


def command_failed(command: str, error: str) -> None:
    logger.error("djq.control.failed command=%s error=%s", escape(command), escape(error))
