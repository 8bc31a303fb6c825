"""One row per task: its state and its result; groups, and chords that run. `backends` writes them.

Names and text formats are those of django-celery-results, so that queries written for it still work; the
other columns are ours. Rows are written by upserts that pass by `save`, so nothing may hook into it here.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from djqueue import states
from djqueue.log import escape
from djqueue_results.querysets import TaskResultQuerySet

#: Longest text of the columns that are not free text; longer names are cut, longer ids become digests.
NAME_LENGTH = 255


class TaskResult(models.Model):
    """The state of one task, and its result once it has one."""

    task_id = models.CharField(_("task id"), max_length=NAME_LENGTH, unique=True)
    periodic_task_name = models.CharField(
        _("periodic task"), max_length=NAME_LENGTH, null=True, help_text=_("The schedule that sent it.")
    )
    task_name = models.CharField(_("task name"), max_length=NAME_LENGTH, null=True)
    task_args = models.TextField(
        _("arguments"), null=True, help_text=_("The representation of the positional ones, as a JSON string.")
    )
    task_kwargs = models.TextField(
        _("named arguments"), null=True, help_text=_("Their representation, as a JSON string.")
    )
    status = models.CharField(_("state"), max_length=50, default=states.PENDING)
    worker = models.CharField(_("worker"), max_length=NAME_LENGTH, null=True)
    content_type = models.CharField(_("content type"), max_length=128, default="application/json")
    content_encoding = models.CharField(_("content encoding"), max_length=64, default="utf-8")
    result = models.TextField(
        _("result"), null=True, help_text=_("The encoded result; the exception of a task that failed.")
    )
    traceback = models.TextField(_("traceback"), null=True)
    meta = models.TextField(_("meta"), null=True, help_text=_("JSON: the tasks that this one sent."))
    date_created = models.DateTimeField(_("first seen"), auto_now_add=True)
    date_started = models.DateTimeField(_("started"), null=True)
    date_done = models.DateTimeField(_("ended"), null=True)

    queue = models.CharField(_("queue"), max_length=NAME_LENGTH, null=True)
    retries = models.IntegerField(_("retries"), default=0)
    root_id = models.CharField(_("root id"), max_length=NAME_LENGTH, null=True)
    parent_id = models.CharField(_("parent id"), max_length=NAME_LENGTH, null=True)
    group_id = models.CharField(_("group id"), max_length=NAME_LENGTH, null=True)
    attempt = models.BigIntegerField(
        _("attempt"), default=0, help_text=_("Orders writes: retries, then starts.")
    )
    fence = models.BigIntegerField(
        _("fence"), default=0, help_text=_("The smallest attempt that may still change the row.")
    )

    objects = models.Manager.from_queryset(TaskResultQuerySet)()

    class Meta:
        verbose_name = _("task result")
        verbose_name_plural = _("task results")
        ordering = ["-date_created"]
        permissions = [
            ("view_arguments", "Can see the arguments of tasks"),
            ("view_result", "Can see the results and errors of tasks"),
        ]
        indexes = [
            # Each index costs a tenth of a write; these are the ones that lists, filters and pruning live on.
            models.Index(fields=["date_created"], name="djq_result_created"),
            models.Index(fields=["status", "date_created"], name="djq_result_status"),
            models.Index(fields=["task_name", "date_created"], name="djq_result_name"),
            models.Index(
                fields=["periodic_task_name", "date_created"],
                condition=models.Q(periodic_task_name__isnull=False),
                name="djq_result_periodic",
            ),
        ]

    def __str__(self) -> str:
        return f"<Task: {escape(self.task_id)} ({escape(self.status)})>"

    @property
    def runtime(self) -> timedelta | None:
        """How long the last run took; None until it ended."""
        if self.date_started is None or self.date_done is None:
            return None
        return self.date_done - self.date_started

    def as_dict(self) -> dict[str, Any]:
        """Return the columns that django-celery-results returns, as they are stored."""
        return {
            "task_id": self.task_id,
            "task_name": self.task_name,
            "task_args": self.task_args,
            "task_kwargs": self.task_kwargs,
            "status": self.status,
            "result": self.result,
            "date_done": self.date_done,
            "traceback": self.traceback,
            "meta": self.meta,
            "worker": self.worker,
        }


class GroupResult(models.Model):
    """The ids of a group that was saved."""

    group_id = models.CharField(_("group id"), max_length=NAME_LENGTH, unique=True)
    date_created = models.DateTimeField(_("created"), auto_now_add=True, db_index=True)
    date_done = models.DateTimeField(_("saved"), auto_now=True)
    content_type = models.CharField(_("content type"), max_length=128, default="application/json")
    content_encoding = models.CharField(_("content encoding"), max_length=64, default="utf-8")
    result = models.TextField(
        _("members"), null=True, help_text=_("JSON: the ids, in the shape that GroupResult.as_tuple gives.")
    )

    class Meta:
        verbose_name = _("group result")
        verbose_name_plural = _("group results")

    def __str__(self) -> str:
        return f"<Group: {escape(self.group_id)}>"

    def as_dict(self) -> dict[str, Any]:
        """Return the columns that django-celery-results returns, as they are stored."""
        return {"group_id": self.group_id, "result": self.result, "date_done": self.date_done}


class ChordCounter(models.Model):
    """A chord that runs: how many parts are missing. It goes when the body is sent."""

    group_id = models.CharField(_("group id"), max_length=NAME_LENGTH, unique=True)
    sub_tasks = models.TextField(_("members"), help_text=_("JSON: the results of the header's tasks."))
    count = models.IntegerField(_("missing"), help_text=_("How many parts have not ended."))
    is_shaped = models.BooleanField(
        _("is shaped"), default=False, help_text=_("Results come in the shape of the members, not in a row.")
    )
    date_created = models.DateTimeField(_("created"), auto_now_add=True, db_index=True)
    claimed_by = models.CharField(
        _("completed by"), max_length=64, default="", help_text=_("The process that sends the body.")
    )
    claimed_until = models.FloatField(
        _("completed until"), default=0.0, help_text=_("When others may take over, in seconds since 1970.")
    )

    class Meta:
        verbose_name = _("chord")
        verbose_name_plural = _("chords")

    def __str__(self) -> str:
        return f"<Chord: {escape(self.group_id)} ({self.count} missing)>"


class ChordPart(models.Model):
    """The end of one part of a chord that runs, or one that was added and is waited for."""

    group_id = models.CharField(_("group id"), max_length=NAME_LENGTH)
    key = models.CharField(
        _("key"), max_length=NAME_LENGTH + 16, help_text=_("What it is counted under, once.")
    )
    place = models.BigIntegerField(_("place"), default=0)
    task_id = models.CharField(_("task id"), max_length=NAME_LENGTH)
    status = models.CharField(_("state"), max_length=50)
    content_type = models.CharField(_("content type"), max_length=128)
    content_encoding = models.CharField(_("content encoding"), max_length=64)
    result = models.TextField(_("result"))

    class Meta:
        verbose_name = _("part of a chord")
        verbose_name_plural = _("parts of chords")
        constraints = [models.UniqueConstraint(fields=["group_id", "key"], name="djq_chord_part")]

    def __str__(self) -> str:
        return f"<Part: {escape(self.group_id)} {escape(self.key)}>"
