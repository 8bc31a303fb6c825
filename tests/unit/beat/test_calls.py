"""Sending an entry's task through the real publisher, into the tables of the database broker."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction

from djqueue.core.messages import WireMessage
from djqueue.core.sealing import open_body
from djqueue.models import Message
from djqueue_beat import calls
from djqueue_beat.arguments import BrokenEntry
from djqueue_beat.models import PeriodicTask
from djqueue_beat.store import Store, slot_id
from tests.project import tasks
from tests.unit.beat.rows import periodic_task

pytestmark = pytest.mark.django_db

NOON = datetime(2030, 5, 1, 12, 0, tzinfo=UTC)


def message() -> Message:
    return Message.objects.get()


def headers() -> dict[str, Any]:
    return dict(json.loads(message().headers))


def body() -> Any:
    row = message()
    return open_body(WireMessage(headers(), {}, bytes(row.body), row.content_type, row.content_encoding))


def test_the_message_has_the_entrys_arguments_and_beats_headers() -> None:
    row = periodic_task(name="sum", args="[1]", kwargs='{"y": 2}', headers='{"shop": "oslo"}')
    assert calls.send(row, slot_id(row, NOON), NOON) == slot_id(row, NOON)
    assert body()[:2] == [[1], {"y": 2}]
    sent = headers()
    assert (sent["task"], sent["id"]) == (row.task, slot_id(row, NOON))
    assert (sent["periodic_task_name"], sent["celery_beat_task"], sent["shop"]) == ("sum", True, "oslo")
    assert sent["periodic_task_slot"] == "2030-05-01T12:00:00+00:00"


def test_options_of_the_entry_reach_the_message() -> None:
    row = periodic_task(queue="slow", priority=4, expire_seconds=60, options='{"time_limit": 30}')
    calls.send(row)
    assert (message().queue, message().priority) == ("slow", 4)
    assert headers()["timelimit"] == [30, None]
    expires = datetime.fromisoformat(headers()["expires"])
    assert timedelta(seconds=50) < expires - datetime.now(UTC) <= timedelta(seconds=60)


def test_a_date_of_expiry_reaches_the_message() -> None:
    calls.send(periodic_task(expires=NOON))
    assert datetime.fromisoformat(headers()["expires"]) == NOON


def test_a_task_that_is_not_known_here_is_sent_by_its_name() -> None:
    calls.send(periodic_task(task="elsewhere.tasks.report", args="[]"))
    assert headers()["task"] == "elsewhere.tasks.report"


def test_a_run_that_was_asked_for_is_not_marked_as_beats() -> None:
    calls.send(periodic_task())
    assert "celery_beat_task" not in headers()
    assert "periodic_task_slot" not in headers()
    assert headers()["periodic_task_name"]


def test_json_that_cannot_be_read_is_told_with_its_column() -> None:
    row = periodic_task()
    PeriodicTask.objects.update(args="[1")
    row.refresh_from_db()
    with pytest.raises(BrokenEntry, match="args is not JSON") as caught:
        calls.send(row)
    assert caught.value.column == "args"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("on_commit", [True, False])
def test_slot_and_message_are_one_transaction_whatever_the_settings_say(
    on_commit: bool, settings: Any
) -> None:
    settings.DJQUEUE = {"TASK_ON_COMMIT": on_commit}
    row = periodic_task(next_run_at=NOON)
    store = Store(clock=lambda: NOON)

    with transaction.atomic():
        assert len(store.take_due()) == 1
        assert Message.objects.count() == 1
        transaction.set_rollback(True)
    assert Message.objects.count() == 0
    assert PeriodicTask.objects.get(pk=row.pk).next_run_at == NOON
    store.take_due()
    assert headers()["id"] == slot_id(row, NOON)


@pytest.mark.django_db(transaction=True)
def test_an_entry_with_wrong_arguments_stops_no_other() -> None:
    periodic_task(name="wrong", task=tasks.add.name, args="[1, 2, 3, 4]", next_run_at=NOON)
    periodic_task(name="right", task=tasks.add.name, next_run_at=NOON)
    reports = {report.entry: report for report in Store(clock=lambda: NOON).take_due()}
    assert reports["wrong"].error
    assert headers()["periodic_task_name"] == "right"
