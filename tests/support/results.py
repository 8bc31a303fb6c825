"""Documents and rows of task results, made to measure.

Tests come in with what matters to them; the rest is filled in with something plausible.
"""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

from factory.declarations import LazyAttribute, LazyFunction
from factory.django import DjangoModelFactory

from djqueue import states
from djqueue.core.requests import attempt_number
from djqueue.result.documents import Document, fence
from djqueue_results.models import TaskResult


def document(task_id: str = "", status: str = states.SUCCESS, **fields: Any) -> Document:
    """Return a document; `retries` and `starts` make the attempt, a terminal state has ended."""
    retries, starts = fields.setdefault("retries", 0), fields.pop("starts", 0)
    fields.setdefault("attempt", attempt_number(retries, starts))
    if "value" in fields:
        fields["result"] = json.dumps(fields.pop("value"))
    if status in states.READY_STATES:
        fields.setdefault("date_done", 1_800_000_000.25)
    return Document(task_id or str(uuid.uuid4()), status, **fields)


class TaskResultFactory(DjangoModelFactory[TaskResult]):
    """Makes rows of successful tasks."""

    class Meta:
        model = TaskResult

    task_id = LazyFunction(lambda: str(uuid.uuid4()))
    task_name = "shop.tasks.add"
    task_args = '"(2, 2)"'
    task_kwargs = '"{}"'
    status = states.SUCCESS
    result = "4"
    worker = "celery@host"
    queue = "default"
    meta = '{"children": []}'
    date_started = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
    date_done = datetime(2026, 11, 20, 12, 0, 1, 500000, tzinfo=UTC)
    fence = LazyAttribute(lambda row: fence(row.status, 0))
