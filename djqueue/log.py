"""Logging for tasks and workers, within Django's LOGGING.

Tasks get their logger here; its records know which task is running. Everything that came from outside goes
through `escape` before it is written. The root logger and its handlers are the project's own: a worker only
adds what is missing to be heard at all.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from djqueue.core.requests import current_request

NO_TASK = "???"
WORKER_FORMAT = "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"
TASK_FORMAT = "[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s"

# C0, DEL, C1, line and paragraph separators, marks that reorder text, lone surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def get_task_logger(name: str) -> logging.Logger:
    """Return the logger `name` for use in tasks: its records carry `task_id` and `task_name`."""
    logger = logging.getLogger(name)
    if not any(isinstance(known, TaskContext) for known in logger.filters):
        logger.addFilter(TaskContext())
    return logger


class TaskContext(logging.Filter):
    """Adds `task_id` and `task_name` of the running task to every record. Fit for Django's LOGGING."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Complete the record; let all of them pass."""
        request = current_request()
        if request is not None and request.id:
            record.task_id, record.task_name = escape(request.id), escape(request.task or NO_TASK)
        else:
            record.__dict__.setdefault("task_id", NO_TASK)
            record.__dict__.setdefault("task_name", NO_TASK)
        return True


class TaskFormatter(logging.Formatter):
    """A formatter whose format may use `%(task_id)s` and `%(task_name)s`, whoever logged the record."""

    def __init__(self, fmt: str | None = TASK_FORMAT, datefmt: str | None = None) -> None:
        super().__init__(fmt, datefmt)
        self._context = TaskContext()

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text."""
        self._context.filter(record)
        return super().format(record)


def escape(text: object, limit: int = 1024) -> str:
    """Return the text on one line, control characters written out, of `limit` characters at most."""
    shown = text if isinstance(text, str) else str(text)
    if len(shown) > limit:
        shown = shown[: max(limit - 1, 0)] + "…"
    # Most text is harmless, and telling so is much faster than searching it.
    if shown.isprintable():
        return shown
    return _UNSAFE.sub(_write_out, shown)


def escape_block(text: str, limit: int = 8192) -> str:
    """Return text of several lines with control characters written out; a long one loses its middle."""
    if len(text) > limit:
        text = f"{text[: limit // 2]}\n… {len(text) - limit} characters left out …\n{text[-(limit // 2) :]}"
    return "\n".join(escape(line, limit) for line in text.split("\n"))


def set_up_worker_logging(level: int, logfile: Path | None = None) -> None:
    """Make the worker's lines heard: at `level`, and in `logfile` if one is given.

    Where the project's LOGGING handles `djqueue` or the root logger, its handlers are used; otherwise lines
    go to standard error. The root logger's level is the project's.
    """
    logger = logging.getLogger("djqueue")
    logger.setLevel(level)
    if logfile is not None:
        handler: logging.Handler = logging.FileHandler(logfile, encoding="utf-8")
    elif logger.hasHandlers():
        return
    else:
        handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(WORKER_FORMAT))
    logger.addHandler(handler)


def _write_out(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    return _NAMED.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
