"""System checks: what `manage.py check` says about BEAT_SCHEDULE.

Each entry that beat would refuse at its start is told here, with its name and what to write instead.
"""

from __future__ import annotations

from typing import Any

from django.core import checks

from djqueue.conf import settings
from djqueue_beat.entries import read_entries


@checks.register("djqueue")
def check_beat_schedule(**_: Any) -> list[checks.CheckMessage]:
    """Entries of BEAT_SCHEDULE that beat cannot keep (djqueue_beat.E001)."""
    schedule = settings.BEAT_SCHEDULE
    if not isinstance(schedule, dict):  # said by the check of the settings
        return []
    return [
        checks.Error(
            f"DJQUEUE['BEAT_SCHEDULE'][{name!r}]: {mistake}",
            hint="An entry looks like {'task': 'shop.tasks.report', 'schedule': crontab(minute=0, hour=7)}.",
            id="djqueue_beat.E001",
        )
        for name, mistake in read_entries(schedule, with_clean_up=False).mistakes.items()
    ]
