"""Beat's tables: schedules, and the tasks that are sent by them.

Model and column names are those of django-celery-beat, so that code and fixtures written for it still work;
the columns that beat keeps its plan in are ours.
"""

from __future__ import annotations

from djqueue_beat.models.columns import TimeZoneField
from djqueue_beat.models.schedules import (
    DAYS,
    HOURS,
    MICROSECONDS,
    MINUTES,
    SECONDS,
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
)
from djqueue_beat.models.tasks import PeriodicTask, PeriodicTasks

__all__ = [
    "DAYS",
    "HOURS",
    "MICROSECONDS",
    "MINUTES",
    "SECONDS",
    "ClockedSchedule",
    "CrontabSchedule",
    "IntervalSchedule",
    "PeriodicTask",
    "PeriodicTasks",
    "TimeZoneField",
]
