"""djqueue: a task queue for Django that speaks Celery's protocol.

These are the names that projects use. Importing them reads no setting and loads no model, so schedules can
be imported by a settings file.
"""

from __future__ import annotations

from djqueue import exceptions, signals, states
from djqueue.canvas import (
    Signature,
    StampingVisitor,
    chain,
    chord,
    chunks,
    group,
    maybe_signature,
    signature,
    xmap,
    xstarmap,
)
from djqueue.door import app
from djqueue.result import (
    AsyncResult,
    EagerResult,
    GroupResult,
    ResultSet,
    allow_join_result,
    result_from_tuple,
)
from djqueue.schedules import clocked, crontab, schedule
from djqueue.tasks import builtin  # noqa: F401  (registers the tasks every registry has)
from djqueue.tasks.current import current_task
from djqueue.tasks.decorator import shared_task, task
from djqueue.tasks.many import aenqueue_many, enqueue_many
from djqueue.tasks.task import Task

control = app.control
inspect = control.inspect

__all__ = [
    "AsyncResult",
    "EagerResult",
    "GroupResult",
    "ResultSet",
    "Signature",
    "StampingVisitor",
    "Task",
    "aenqueue_many",
    "allow_join_result",
    "app",
    "chain",
    "chord",
    "chunks",
    "clocked",
    "control",
    "crontab",
    "current_task",
    "enqueue_many",
    "exceptions",
    "group",
    "inspect",
    "maybe_signature",
    "result_from_tuple",
    "schedule",
    "shared_task",
    "signals",
    "signature",
    "states",
    "task",
    "xmap",
    "xstarmap",
]
