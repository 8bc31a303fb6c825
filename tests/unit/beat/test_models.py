"""Beat's tables: names known from django-celery-beat, checks, plans, and saves that undo nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core import serializers
from django.core.exceptions import ValidationError
from django.db import connection
from django.utils import timezone

from djqueue.schedules import clocked, crontab, schedule
from djqueue_beat.models import (
    DAYS,
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
)
from tests.unit.beat.rows import periodic_task, saved

pytestmark = pytest.mark.django_db


def seconds_until(moment: datetime | None) -> float:
    assert moment is not None
    return (moment - timezone.now()).total_seconds()


# Schedules


def test_schedules_are_made_as_users_of_django_celery_beat_make_them() -> None:
    interval, _ = IntervalSchedule.objects.get_or_create(every=10, period=IntervalSchedule.SECONDS)
    daily, _ = CrontabSchedule.objects.get_or_create(
        minute="30", hour="7", day_of_week="mon-fri", timezone=ZoneInfo("Canada/Pacific")
    )
    moment, _ = ClockedSchedule.objects.get_or_create(clocked_time=datetime(2030, 1, 1, tzinfo=UTC))
    assert str(interval) == "every 10 seconds"
    assert str(IntervalSchedule(every=1, period=DAYS)) == "every day"
    assert daily.human_readable == "every weekday at 07:30 Canada/Pacific"
    assert interval.schedule == schedule(10)
    assert daily.schedule == crontab(30, 7, "mon-fri", tz=ZoneInfo("Canada/Pacific"))
    assert moment.schedule == clocked(datetime(2030, 1, 1, tzinfo=UTC))
    assert CrontabSchedule.objects.get(pk=daily.pk).timezone == ZoneInfo("Canada/Pacific")


@pytest.mark.parametrize(
    ("given", "every", "period"),
    [(90, 90, "seconds"), (3600, 1, "hours"), (0.25, 250_000, "microseconds"), (172800, 2, "days")],
)
def test_an_interval_is_kept_in_the_largest_unit_that_fits(given: float, every: int, period: str) -> None:
    row = IntervalSchedule.from_schedule(schedule(given))
    assert (row.every, row.period) == (every, period)
    assert row.schedule == schedule(given)


def test_a_schedule_that_is_in_the_table_is_used_again() -> None:
    given: tuple[tuple[Any, Any], ...] = (
        (schedule(90), IntervalSchedule),
        (crontab(minute={0, 30}, tz=ZoneInfo("Asia/Tokyo")), CrontabSchedule),
        (clocked(datetime(2030, 1, 1, tzinfo=UTC)), ClockedSchedule),
    )
    for pure, model in given:
        row = saved(model.from_schedule(pure))
        assert model.from_schedule(pure) == row
        assert row.schedule == pure


def test_a_new_crontab_has_the_zone_of_the_project() -> None:
    assert str(CrontabSchedule.objects.create().schedule.zone()) == "Europe/Oslo"


def test_each_wrong_field_of_a_crontab_is_told_at_its_place() -> None:
    with pytest.raises(ValidationError) as caught:
        CrontabSchedule(minute="60", hour="x", day_of_week="7").full_clean()
    assert set(caught.value.message_dict) == {"minute", "hour", "day_of_week"}
    assert "Sunday is 0" in caught.value.message_dict["day_of_week"][0]


def test_a_date_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError, match="no such date exists"):
        CrontabSchedule(day_of_month="31", month_of_year="feb").full_clean()


def test_an_unknown_time_zone_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ValidationError, match="Did you mean 'Europe/Oslo'"):
        CrontabSchedule(timezone="Europe/Olso").full_clean()


def test_a_zone_this_machine_does_not_know_keeps_no_other_row_from_being_read() -> None:
    row = CrontabSchedule.objects.create()
    CrontabSchedule.objects.create()
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {CrontabSchedule._meta.db_table} SET timezone = 'Mars/Base' WHERE id = %s", [row.pk]
        )
    assert CrontabSchedule.objects.count() == len(list(CrontabSchedule.objects.all())) == 2
    assert "There is no time zone 'Mars/Base'" in CrontabSchedule.objects.get(pk=row.pk).human_readable


# Checks


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"interval": None}, "exactly one"),
        ({"expires": datetime(2030, 1, 1, tzinfo=UTC), "expire_seconds": 5}, "not both"),
    ],
)
def test_an_entry_is_checked_when_it_is_saved(columns: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        periodic_task(**columns)


def test_two_schedules_are_one_too_many() -> None:
    row = periodic_task()
    row.crontab = CrontabSchedule.objects.create()
    with pytest.raises(ValidationError, match="interval, crontab"):
        row.save()


def test_a_single_moment_must_be_sent_once_only() -> None:
    moment = ClockedSchedule.objects.create(clocked_time=datetime(2030, 1, 1, tzinfo=UTC))
    with pytest.raises(ValidationError, match="once only"):
        periodic_task(clocked=moment)
    assert periodic_task(clocked=moment, one_off=True).next_run_at == moment.clocked_time


def test_a_name_can_be_taken_once() -> None:
    periodic_task(name="report")
    with pytest.raises(ValidationError, match="already exists"):
        periodic_task(name="report")


@pytest.mark.parametrize(
    ("column", "text", "says"),
    [
        ("args", '{"a": 1}', "must be a JSON list"),
        ("args", "[1", "not JSON"),
        ("kwargs", "[]", "must be a JSON object"),
        ("headers", '{"id": "x"}', "the message protocol does"),
        ("options", '{"qeue": "x"}', "Did you mean 'queue'"),
        ("options", '{"task_id": "x"}', "beat does"),
    ],
)
def test_json_is_checked_at_its_column(column: str, text: str, says: str) -> None:
    row = periodic_task()
    setattr(row, column, text)
    with pytest.raises(ValidationError) as caught:
        row.full_clean()
    assert says in caught.value.message_dict[column][0]


def test_blank_options_are_kept_as_null() -> None:
    row = periodic_task(queue="", exchange="", routing_key="")
    row.refresh_from_db()
    assert (row.queue, row.exchange, row.routing_key) == (None, None, None)


# Plans


def test_a_new_entry_is_planned_when_it_is_saved() -> None:
    assert 3590 < seconds_until(periodic_task(interval=3600).next_run_at) <= 3600


def test_an_entry_that_is_switched_off_waits_for_nothing() -> None:
    row = periodic_task(enabled=False)
    assert row.next_run_at is None
    row.enabled = True
    row.save()
    assert 0 < seconds_until(PeriodicTask.objects.get(pk=row.pk).next_run_at) <= 10


def test_switching_off_forgets_the_last_run() -> None:
    row = periodic_task(last_run_at=timezone.now())
    row.enabled = False
    row.save()
    row.refresh_from_db()
    assert (row.last_run_at, row.next_run_at) == (None, None)


def test_a_change_that_does_not_touch_the_schedule_keeps_the_plan() -> None:
    row = periodic_task(next_run_at=timezone.now() + timedelta(seconds=3))
    planned = row.next_run_at
    row.args = "[]"
    row.save()
    assert PeriodicTask.objects.get(pk=row.pk).next_run_at == planned


def test_another_schedule_makes_another_plan() -> None:
    row = periodic_task(interval=86400)
    row.interval = saved(IntervalSchedule.from_schedule(schedule(20)))
    row.save()
    assert seconds_until(PeriodicTask.objects.get(pk=row.pk).next_run_at) <= 20


def test_a_save_puts_no_old_value_back_into_beats_columns() -> None:
    row = periodic_task()
    stale = PeriodicTask.objects.get(pk=row.pk)
    later = timezone.now() + timedelta(hours=1)
    PeriodicTask.objects.filter(pk=row.pk).update(next_run_at=later, total_run_count=7, last_run_at=later)
    stale.description = "edited meanwhile"
    stale.save()
    row.refresh_from_db()
    assert (row.next_run_at, row.total_run_count, row.description) == (later, 7, "edited meanwhile")
    assert row.last_run_at == later


def test_beats_columns_can_be_set_on_purpose() -> None:
    row = PeriodicTask.objects.get(pk=periodic_task().pk)
    row.total_run_count = 5
    row.save()
    assert PeriodicTask.objects.get(pk=row.pk).total_run_count == 5
    row.refresh_from_db()
    row.total_run_count = 6
    row.save(update_fields=["description"])
    assert PeriodicTask.objects.get(pk=row.pk).total_run_count == 6


def test_only_enabled_entries_are_asked_for() -> None:
    enabled = periodic_task()
    periodic_task(enabled=False)
    assert list(PeriodicTask.objects.enabled()) == [enabled]


def test_fixtures_carry_entries_from_one_site_to_another() -> None:
    row = periodic_task(crontab="30 7 * * mon")
    text = serializers.serialize("json", [*CrontabSchedule.objects.all(), row])
    CrontabSchedule.objects.all().delete()
    for loaded in serializers.deserialize("json", text):
        loaded.save()
    again = PeriodicTask.objects.get(name=row.name)
    assert again.in_words == "every Monday at 07:30 Europe/Oslo"


# Telling beats


def test_every_save_and_deletion_is_noted() -> None:
    row, interval = periodic_task(), IntervalSchedule.objects.get()
    for change in (row.save, interval.save, row.delete, interval.delete):
        PeriodicTasks.objects.update(last_update=datetime(2020, 1, 1, tzinfo=UTC))
        change()
        assert seconds_until(PeriodicTasks.last_change()) > -60


def test_a_save_with_no_changes_is_not_noted() -> None:
    row = periodic_task()
    PeriodicTasks.objects.all().delete()
    row.no_changes = True
    row.save()
    assert PeriodicTasks.last_change() is None
    PeriodicTasks.update_changed()
    assert PeriodicTasks.last_change() is not None
