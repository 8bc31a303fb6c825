"""When things happen: schedules as pure values, importable from a settings file.

`crontab`, `schedule` and `clocked` take Celery's arguments. Each answers one question, `next_after(moment)`,
without touching a clock, a model or a server; beat asks it, the admin previews with it, users may subclass
`BaseSchedule`. `maybe_schedule` turns what people write into one of them.
"""

from __future__ import annotations

from djqueue.schedules.contract import BaseSchedule, schedstate
from djqueue.schedules.cron import crontab
from djqueue.schedules.fields import ParseException
from djqueue.schedules.instant import clocked
from djqueue.schedules.interval import maybe_schedule, schedule

__all__ = ["BaseSchedule", "ParseException", "clocked", "crontab", "maybe_schedule", "schedstate", "schedule"]
