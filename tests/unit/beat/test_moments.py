"""Moments in columns, with USE_TZ on and off: beat's sums are the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from djqueue_beat.models import PeriodicTask
from djqueue_beat.moments import from_column, to_column
from djqueue_beat.store import Store
from tests.unit.beat.rows import periodic_task

NOON = datetime(2030, 5, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("use_tz", [True, False])
def test_a_moment_comes_back_from_its_column(settings: Any, use_tz: bool) -> None:
    settings.USE_TZ = use_tz
    assert from_column(to_column(NOON)) == NOON
    assert to_column(NOON).tzinfo == (UTC if use_tz else None)
    assert from_column(None) is None
    assert to_column(None) is None


def test_a_naive_column_is_in_the_projects_zone(settings: Any) -> None:
    settings.USE_TZ = False
    assert to_column(NOON) == datetime(2030, 5, 1, 14, 0)


@pytest.mark.django_db
def test_slots_are_taken_with_naive_columns_too(settings: Any) -> None:
    settings.USE_TZ = False
    row = periodic_task(interval=10, next_run_at=to_column(NOON))
    slots: list[datetime] = []

    def send(row: PeriodicTask, task_id: str, slot: datetime) -> str:
        slots.append(slot)
        return task_id

    store = Store(clock=lambda: NOON + timedelta(seconds=3), send=send)
    assert store.next_slot() == NOON
    store.take_due()
    assert slots == [NOON]
    assert store.next_slot() == NOON + timedelta(seconds=10)
    assert PeriodicTask.objects.get(pk=row.pk).next_run_at == datetime(2030, 5, 1, 14, 0, 10)
