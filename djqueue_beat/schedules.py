"""The schedules under the name that users of django-celery-beat look for.

They live in `djqueue.schedules`, because settings files import them and this app is optional. The names here
are the same objects.
"""

from __future__ import annotations

from djqueue.schedules import (
    BaseSchedule,
    ParseException,
    clocked,
    crontab,
    maybe_schedule,
    schedstate,
    schedule,
)

__all__ = ["BaseSchedule", "ParseException", "clocked", "crontab", "maybe_schedule", "schedstate", "schedule"]
