"""Rows for the tests of beat, made by factory-boy.

`periodic_task(interval=10)` and `periodic_task(crontab="0 7 * * *")` make the schedule along; without either,
a task is due every ten seconds.
"""

from __future__ import annotations

from typing import Any

from factory.declarations import Sequence
from factory.django import DjangoModelFactory

from djqueue.schedules import crontab, schedule
from djqueue_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask


class PeriodicTaskFactory(DjangoModelFactory):
    """A periodic task; `interval` in seconds or `crontab` as a line (day of the week last)."""

    class Meta:
        model = PeriodicTask

    name = Sequence(lambda number: f"entry {number}")
    task = "tests.project.tasks.add"
    args = "[1, 2]"
    interval: Any = 10

    @classmethod
    def _create(cls, model_class: Any, *args: Any, **columns: Any) -> PeriodicTask:
        if isinstance(columns.get("crontab"), str):
            columns["crontab"] = saved(CrontabSchedule.from_schedule(crontab.from_string(columns["crontab"])))
            columns["interval"] = None
        if columns.get("clocked") is not None:
            columns["interval"] = None
        if isinstance(columns["interval"], int | float):
            columns["interval"] = saved(IntervalSchedule.from_schedule(schedule(columns["interval"])))
        row: PeriodicTask = super()._create(model_class, *args, **columns)
        return row


def periodic_task(**columns: Any) -> PeriodicTask:
    """Return a new row; see the factory."""
    row: PeriodicTask = PeriodicTaskFactory(**columns)  # type: ignore[assignment]
    return row


def saved(row: Any) -> Any:
    """Return the row of a schedule, in the table."""
    if row.pk is None:
        row.save()
    return row
