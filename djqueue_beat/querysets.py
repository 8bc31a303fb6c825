"""Questions to the table of periodic tasks, each asked in one place.

The store asks what is due; the admin and users ask what is enabled. Nothing is changed here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from django.db import models
from django.db.models import Min

from djqueue_beat.moments import from_column, to_column

#: the rows that a schedule may be in
SCHEDULE_COLUMNS = ("interval", "crontab", "clocked")


class PeriodicTaskQuerySet(models.QuerySet[Any]):
    """Periodic tasks."""

    def with_schedules(self) -> Self:
        """Fetch the rows' schedules along with them."""
        return self.prefetch_related(*SCHEDULE_COLUMNS)

    def enabled(self) -> Self:
        """Those that are switched on, with their schedules."""
        return self.with_schedules().filter(enabled=True)

    def due(self, now: datetime) -> Self:
        """Those whose slot has come, longest waiting first, with their schedules."""
        return self.enabled().filter(next_run_at__lte=to_column(now)).order_by("next_run_at", "pk")

    def next_slot(self) -> datetime | None:
        """Return the earliest slot that any enabled one waits for."""
        return from_column(self.filter(enabled=True).aggregate(first=Min("next_run_at"))["first"])
