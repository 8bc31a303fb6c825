"""What `manage.py check` says about BEAT_SCHEDULE."""

from __future__ import annotations

from typing import Any

from djqueue.schedules import crontab
from djqueue_beat.checks import check_beat_schedule


def test_each_mistake_is_an_error_with_the_name_of_its_entry(settings: Any) -> None:
    good = {"task": "shop.tasks.report", "schedule": crontab(minute=0)}
    settings.DJQUEUE = {"BEAT_SCHEDULE": {"good": good, "bad": {"task": "t", "shedule": 5}}}
    (error,) = check_beat_schedule()
    assert error.id == "djqueue_beat.E001"
    assert error.msg.startswith("DJQUEUE['BEAT_SCHEDULE']['bad']: 'shedule' is not a key of an entry.")


def test_a_good_schedule_gives_no_errors(settings: Any) -> None:
    settings.DJQUEUE = {"BEAT_SCHEDULE": {"good": {"task": "t", "schedule": 5}}}
    assert check_beat_schedule() == []
