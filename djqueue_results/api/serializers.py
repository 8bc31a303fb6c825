"""A document as the API shows it.

A `Document` comes in, with the `Sight` of the visitor in the context; fields beyond it are left out.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rest_framework import serializers

from djqueue import states
from djqueue.result.documents import Document
from djqueue_results.api.permissions import Sight
from djqueue_results.readable import children_ids, error_of, progress_of, value_of


class MomentField(serializers.DateTimeField):
    """Seconds since the epoch, shown as any other date and time of the project."""

    def to_representation(self, value: Any) -> Any:
        """Return the moment as text, or as DATETIME_FORMAT says."""
        return super().to_representation(datetime.fromtimestamp(value, UTC))


class TaskSerializer(serializers.Serializer[Document]):
    """The state of one task. Which fields are there depends on what the visitor may see."""

    id = serializers.CharField(source="task_id", read_only=True)
    status = serializers.CharField(read_only=True)
    ready = serializers.SerializerMethodField()
    progress = serializers.SerializerMethodField(help_text="What the task last said by update_state.")
    date_started = MomentField(read_only=True)
    date_done = MomentField(read_only=True)
    runtime = serializers.SerializerMethodField(help_text="Seconds.")
    # With the details:
    name = serializers.CharField(read_only=True)
    queue = serializers.CharField(read_only=True)
    worker = serializers.CharField(read_only=True)
    retries = serializers.IntegerField(read_only=True)
    periodic_task_name = serializers.CharField(read_only=True)
    root_id = serializers.CharField(read_only=True)
    parent_id = serializers.CharField(read_only=True)
    group_id = serializers.CharField(read_only=True)
    children = serializers.SerializerMethodField(help_text="Ids of the tasks and groups it sent.")
    # With the permission to see results:
    result = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()
    traceback = serializers.CharField(read_only=True)
    # With the permission to see arguments:
    args = serializers.CharField(read_only=True)
    kwargs = serializers.CharField(read_only=True)

    DETAILS = (
        *("name", "queue", "worker", "retries", "periodic_task_name"),
        *("root_id", "parent_id", "group_id", "children"),
    )
    RESULT = ("result", "error")
    ARGUMENTS = ("args", "kwargs")

    def get_fields(self) -> dict[str, serializers.Field]:
        """Return the fields within sight; all of them without a sight (for the schema)."""
        sight = self.context.get("sight") or Sight(details=True, result=True, arguments=True)
        hidden: set[str] = set()
        if not sight.details:
            hidden.update(self.DETAILS)
        if not sight.result:
            hidden.update(self.RESULT)
        if not (sight.details and sight.result):
            hidden.add("traceback")  # file names and lines of code: not for the bearer of a link
        if not sight.arguments:
            hidden.update(self.ARGUMENTS)
        return {name: field for name, field in super().get_fields().items() if name not in hidden}

    def get_ready(self, document: Document) -> bool:
        """Return whether the task has ended."""
        return document.status in states.READY_STATES

    def get_progress(self, document: Document) -> Any:
        """Return what the task said of its progress."""
        return progress_of(document)

    def get_runtime(self, document: Document) -> float | None:
        """Return how many seconds the last run took."""
        if document.date_started is None or document.date_done is None:
            return None
        return round(document.date_done - document.date_started, 6)

    def get_children(self, document: Document) -> list[str]:
        """Return the ids of the tasks it sent."""
        return children_ids(document.children)

    def get_result(self, document: Document) -> Any:
        """Return what the task returned."""
        return value_of(document) if document.status == states.SUCCESS else None

    def get_error(self, document: Document) -> dict[str, Any] | None:
        """Return what the task raised."""
        return error_of(document)
