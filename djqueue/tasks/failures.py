"""An exception of a task, as handlers, signals, logs and results see it.

Execution comes in with what was raised; text leaves that is bounded and starts where user code starts.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType

from djqueue.core.reprs import safe_repr

#: Longer tracebacks lose their middle, characters.
LONGEST = 64 * 1024

_OURS = f"{Path(__file__).resolve().parents[1]}/"


class ExceptionInfo:
    """An exception with its traceback as text, in the shape that handlers of Celery tasks know.

    `tb` is the traceback itself, as long as the run lasts.
    """

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception
        self.type = type(exception)
        self.tb = exception.__traceback__
        self.traceback = traceback_text(exception)

    def __str__(self) -> str:
        return self.traceback

    def __repr__(self) -> str:
        return f"<ExceptionInfo: {safe_repr(self.exception, 200)}>"


def traceback_text(exc: BaseException) -> str:
    """Return the traceback as Python prints it, without the frames above the task's own."""
    try:
        lines = traceback.format_exception(type(exc), exc, _from_user_code(exc.__traceback__))
    except Exception as broken:  # the exception's own __str__ may raise
        lines = traceback.format_tb(_from_user_code(exc.__traceback__))
        lines.append(f"{type(exc).__name__}: its text cannot be made, {type(broken).__name__} is raised.\n")
    text = "".join(lines)
    if len(text) > LONGEST:
        half = LONGEST // 2
        text = f"{text[:half]}\n… {len(text) - LONGEST} characters left out …\n{text[-half:]}"
    return text


def clear_frames(exc: BaseException) -> None:
    """Forget the local variables of the frames that the exception went through, so that they can be freed."""
    traceback.clear_frames(exc.__traceback__)


def _from_user_code(tb: TracebackType | None) -> TracebackType | None:
    """Skip the frames of this package (and of asgiref, which runs coroutines) at the top."""
    first = tb
    while first is not None:
        file = first.tb_frame.f_code.co_filename
        if not file.startswith(_OURS) and "asgiref" not in file and "concurrent/futures" not in file:
            return first
        first = first.tb_next
    return tb
