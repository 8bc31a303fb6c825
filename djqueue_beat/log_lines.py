"""Every line that beat prints, with its level and wording, and nothing else.

Each starts with a stable event name followed by key=value pairs; tests and alerts match the names. Whatever
people wrote into tables is escaped.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime

from djqueue.log import escape

logger = logging.getLogger("djqueue.beat")


def banner(facts: Iterable[tuple[str, str]]) -> str:
    """Return what `runbeat` prints when it starts."""
    lines = [f"  {name + ':':<15}{escape(value)}" for name, value in facts]
    return "\n".join(["djqueue beat", "", *lines, ""])


def started(entries: int) -> None:
    logger.info("djq.beat.started enabled_schedules=%d", entries)


def stopping(signal_name: str) -> None:
    logger.info("djq.beat.stopping signal=%s", signal_name)


def stopped(sent: int) -> None:
    logger.info("djq.beat.stopped tasks_sent=%d", sent)


def database_lost(error: str) -> None:
    logger.error("djq.beat.database_lost error=%s", escape(error))


def database_restored(waited: float) -> None:
    logger.info("djq.beat.database_restored after_s=%.1f", waited)


def sent(entry: str, task: str, task_id: str, slot: datetime) -> None:
    logger.info(
        'djq.tick.sent schedule="%s" task=%s id=%s slot=%s',
        escape(entry),
        escape(task),
        task_id,
        slot.isoformat(),
    )


def caught_up(entry: str, missed_from: datetime, slot: datetime) -> None:
    logger.warning(
        'djq.tick.caught_up schedule="%s" missed_from=%s sent_for=%s',
        escape(entry),
        missed_from.isoformat(),
        slot.isoformat(),
    )


def expired(entry: str) -> None:
    logger.info('djq.tick.expired schedule="%s": it is past its end and was switched off', escape(entry))


def broken(entry: str, error: str, switched_off: bool) -> None:
    end = "; switched off" if switched_off else ""
    logger.error('djq.tick.broken schedule="%s" error=%s%s', escape(entry), escape(error), end)


def setting_refused(entry: str, error: str) -> None:
    logger.error('djq.beat.setting_refused BEAT_SCHEDULE["%s"]: %s', escape(entry), escape(error))


def setting_removed(entry: str) -> None:
    logger.info('djq.beat.setting_removed schedule="%s": no longer in BEAT_SCHEDULE, deleted', escape(entry))
