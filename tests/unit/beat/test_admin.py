"""The admin of schedules, through Django's test client: what staff see, and what they may do."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from djqueue.models import Message
from djqueue_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask
from tests.unit.beat.rows import periodic_task

pytestmark = pytest.mark.django_db

ADD = "admin:djqueue_beat_periodictask_add"
LIST = "admin:djqueue_beat_periodictask_changelist"
CHANGE = "admin:djqueue_beat_periodictask_change"


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(get_user_model().objects.create_superuser("admin"))
    return client


@pytest.fixture
def clerk(client: Client) -> Callable[..., Client]:
    """Log in somebody who may do only what is named."""

    def log_in(*permissions: str) -> Client:
        user = get_user_model().objects.create_user("clerk", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client.force_login(user)
        return client

    return log_in


def form(**columns: Any) -> dict[str, Any]:
    return {
        "name": "report",
        "task": "tests.project.tasks.add",
        "enabled": "on",
        "args": "[1, 2]",
        "kwargs": "{}",
        "headers": "{}",
        "options": "{}",
        **columns,
    }


def crontab_row(**columns: Any) -> CrontabSchedule:
    return CrontabSchedule.objects.create(
        **{"minute": "30", "hour": "7", "day_of_week": "mon-fri", **columns}
    )


def act(client: Client, action: str, *rows: PeriodicTask) -> str:
    data = {"action": action, "_selected_action": [row.pk for row in rows]}
    return client.post(reverse(LIST), data, follow=True).content.decode()


def test_the_list_says_each_schedule_in_plain_words(staff: Client) -> None:
    periodic_task(name="report", crontab="30 7 * * 1-5")
    page = staff.get(reverse(LIST)).content.decode()
    assert "every weekday at 07:30 Europe/Oslo" in page


def test_the_form_offers_the_registered_tasks(staff: Client) -> None:
    page = staff.get(reverse(ADD)).content.decode()
    assert '<option value="tests.project.tasks.add">' in page
    assert "celery.backend_cleanup" not in page


def test_an_entry_is_made_and_its_next_time_told(staff: Client) -> None:
    data = form(crontab=crontab_row().pk)
    page = staff.post(reverse(ADD), data, follow=True).content.decode()
    assert "It runs every weekday at 07:30 Europe/Oslo; next: " in page
    assert PeriodicTask.objects.get(name="report").next_run_at is not None


def test_a_task_that_nobody_here_knows_is_warned_about(staff: Client) -> None:
    data = form(crontab=crontab_row().pk, task="tests.project.tasks.ad")
    page = staff.post(reverse(ADD), data, follow=True).content.decode()
    assert "No task tests.project.tasks.ad is registered here" in page
    assert "Did you mean tests.project.tasks.add" in page
    assert PeriodicTask.objects.filter(task="tests.project.tasks.ad").exists()


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({}, "Choose exactly one of interval, crontab and single moment"),
        ({"args": "{}"}, "args must be a JSON list"),
        ({"options": '{"qeue": 1}'}, "Did you mean"),
        ({"priority": "300"}, "less than or equal to 255"),
    ],
)
def test_mistakes_are_told_in_the_form(staff: Client, columns: dict[str, str], says: str) -> None:
    page = staff.post(reverse(ADD), form(**columns)).content.decode()
    assert says in page
    assert not PeriodicTask.objects.exists()


def test_a_wrong_crontab_is_told_at_its_field(staff: Client) -> None:
    fields = {"minute": "61", "hour": "*", "day_of_month": "*", "month_of_year": "*", "day_of_week": "*"}
    url = reverse("admin:djqueue_beat_crontabschedule_add")
    page = staff.post(url, fields | {"timezone": "Europe/Oslo"}).content.decode()
    assert "61 is outside of 0 to 59" in page


def test_the_next_times_are_previewed(staff: Client) -> None:
    row = periodic_task(crontab="30 7 * * 1-5")
    page = staff.get(reverse(CHANGE, args=[row.pk])).content.decode()
    assert page.count(", 07:30:00 Europe/Oslo") == 5
    url = reverse("admin:djqueue_beat_crontabschedule_change", args=[row.crontab_id])
    assert staff.get(url).content.decode().count(", 07:30:00 Europe/Oslo") == 5


def test_entries_that_cannot_be_read_can_still_be_looked_at(staff: Client) -> None:
    row = periodic_task(crontab="0 7 * * *")
    CrontabSchedule.objects.update(minute="99")
    PeriodicTask.objects.update(args="[", last_error="args is not JSON")
    for url in (reverse(LIST), reverse(CHANGE, args=[row.pk])):
        page = staff.get(url).content.decode()
        assert "99 is outside of 0 to 59" in page
        assert "args is not JSON" in page


def test_entries_are_switched_off_and_on(staff: Client) -> None:
    one, other = periodic_task(last_run_at=timezone.now()), periodic_task(enabled=False)
    act(staff, "toggle_tasks", one, other)
    assert list(PeriodicTask.objects.order_by("pk").values_list("enabled", flat=True)) == [False, True]
    assert PeriodicTask.objects.get(pk=one.pk).last_run_at is None
    act(staff, "enable_tasks", one, other)
    assert PeriodicTask.objects.filter(enabled=True, next_run_at__isnull=False).count() == 2
    act(staff, "disable_tasks", one, other)
    assert PeriodicTask.objects.filter(enabled=True).count() == 0
    assert LogEntry.objects.count() == 5


def test_an_entry_is_run_now_beside_its_schedule(staff: Client) -> None:
    row = periodic_task(name="sum", interval=3600, queue="slow")
    page = act(staff, "run_tasks", row)
    message = Message.objects.get()
    assert "Sent sum as" in page
    assert message.queue == "slow"
    assert json.loads(message.headers)["periodic_task_name"] == "sum"
    row.refresh_from_db()
    assert (row.total_run_count, row.last_run_at) == (0, None)
    assert "Sent now as" in LogEntry.objects.get().change_message


def test_a_broken_entry_is_not_run_and_the_reason_is_shown(staff: Client) -> None:
    row, fine = periodic_task(name="broken"), periodic_task(name="fine")
    PeriodicTask.objects.filter(pk=row.pk).update(args="[")
    page = act(staff, "run_tasks", row, fine)
    assert "Not sent: broken, because args is not JSON" in page
    assert Message.objects.count() == 1


def test_running_now_needs_its_own_permission(clerk: Callable[..., Client]) -> None:
    row = periodic_task()
    client = clerk("view_periodictask", "change_periodictask")
    assert "run_tasks" not in client.get(reverse(LIST)).content.decode()
    act(client, "run_tasks", row)
    assert not Message.objects.exists()


def test_those_who_may_run_entries_need_not_be_able_to_change_them(clerk: Callable[..., Client]) -> None:
    row = periodic_task()
    client = clerk("view_periodictask", "run_periodictask")
    assert "disable_tasks" not in client.get(reverse(LIST)).content.decode()
    act(client, "run_tasks", row)
    assert Message.objects.count() == 1


def test_of_an_entry_of_the_settings_only_the_switch_can_be_changed(staff: Client) -> None:
    row = periodic_task(name="pulse", from_settings=True)
    url = reverse(CHANGE, args=[row.pk])
    page = staff.get(url).content.decode()
    assert 'name="enabled"' in page
    assert 'name="task"' not in page
    staff.post(url, {"task": "other"})
    row.refresh_from_db()
    assert (row.enabled, row.task) == (False, "tests.project.tasks.add")


def test_a_schedule_lists_who_uses_it(staff: Client) -> None:
    row = periodic_task(name="the one that uses it")
    url = reverse("admin:djqueue_beat_intervalschedule_change", args=[row.interval_id])
    assert "the one that uses it" in staff.get(url).content.decode()


@pytest.mark.parametrize("kind", ["intervalschedule", "crontabschedule", "clockedschedule", "periodictask"])
def test_every_page_can_be_searched(staff: Client, kind: str) -> None:
    periodic_task(crontab="30 7 * * 1-5", start_time=timezone.now() + timedelta(days=1))
    IntervalSchedule.objects.create(every=7, period="days")
    response = staff.get(reverse(f"admin:djqueue_beat_{kind}_changelist"), {"q": "7"})
    assert response.status_code == 200
