"""Telling beats that somebody changed a schedule or a periodic task.

Django's signals come in, for single saves and for deletions of any number; the row of `PeriodicTasks` gets a
new date, which beats look at before each round. `QuerySet.update` and `bulk_create` send no signals.
"""

from __future__ import annotations

from django.db.models.signals import post_delete, post_save

from djqueue_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
)


def watch() -> None:
    """Connect the signals; doing so twice is fine."""
    for model in (PeriodicTask, IntervalSchedule, CrontabSchedule, ClockedSchedule):
        for signal in (post_save, post_delete):
            signal.connect(_changed, sender=model, dispatch_uid=f"djqueue_beat.{model.__name__}")


def _changed(instance: PeriodicTask, **_: object) -> None:
    PeriodicTasks.changed(instance)
