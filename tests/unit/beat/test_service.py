"""The beat's rounds: how long it pauses, what it tells, and how it lives through outages."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from djqueue import exceptions, signals
from djqueue.schedules import schedule
from djqueue_beat.component import BeatComponent
from djqueue_beat.models import IntervalSchedule, PeriodicTask, PeriodicTasks
from djqueue_beat.service import LONGEST_RETRY, LOOK_AGAIN, Beat
from djqueue_beat.store import Store
from tests.unit.beat.rows import periodic_task

pytestmark = pytest.mark.django_db

NOON = datetime(2030, 5, 1, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Bench:
    """A beat whose clocks the test moves, and whose sender remembers."""

    def __init__(self, **options: Any) -> None:
        self.now = NOON
        self.monotonic = 1000.0
        self.sent: list[datetime] = []
        self.away: Exception | None = None
        self.store = Store(clock=lambda: self.now, send=self.send, batch=options.pop("batch", 100))
        self.beat = Beat(self.store, **options)

    def send(self, row: PeriodicTask, task_id: str, slot: datetime) -> str:
        if self.away:
            raise self.away
        self.sent.append(slot)
        return task_id

    def tick(self, after: float = 0.0) -> float:
        self.now += after * SECOND
        self.monotonic += after
        return self.beat.tick(self.monotonic)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, logger="djqueue.beat"):
        yield caplog


@pytest.fixture(autouse=True)
def no_clean_up(settings: Any) -> None:
    settings.DJQUEUE = {"RESULT_EXPIRES": None}


def test_it_sleeps_until_the_next_slot() -> None:
    periodic_task(interval=2, next_run_at=NOON + 1.5 * SECOND)
    bench = Bench()
    assert bench.tick() == 1.5
    assert bench.tick(1.5) == 2.0
    assert bench.sent == [NOON + 1.5 * SECOND]


def test_it_looks_for_changes_every_few_seconds() -> None:
    bench = Bench()
    assert bench.tick() == 5.0
    periodic_task(next_run_at=NOON + 300 * SECOND)
    assert bench.tick(1) == 5.0
    assert Bench(max_interval=0.5).tick() == 0.5


def test_the_longest_pause_can_be_set(settings: Any) -> None:
    settings.DJQUEUE = {"RESULT_EXPIRES": None, "BEAT_MAX_LOOP_INTERVAL": 2}
    assert Bench().tick() == 2.0


def test_more_than_a_batch_is_sent_without_a_pause() -> None:
    for _ in range(5):
        periodic_task(next_run_at=NOON)
    bench = Bench(batch=2)
    assert [bench.tick(), bench.tick(), bench.tick() > 0] == [0.0, 0.0, True]
    assert len(bench.sent) == 5


def test_a_change_takes_effect_within_a_round() -> None:
    row = periodic_task(interval=86400, next_run_at=NOON + timedelta(hours=9))
    bench = Bench()
    bench.tick()
    interval = IntervalSchedule.objects.get()
    interval.every, interval.period = 3, "seconds"
    interval.save()
    assert bench.tick(1) == 3.0
    row.refresh_from_db()
    row.enabled = False
    row.save()
    assert bench.tick(1) == 5.0


def test_a_bulk_change_takes_effect_when_it_is_told_or_after_a_while() -> None:
    periodic_task(interval=86400, next_run_at=NOON + timedelta(hours=9))
    bench = Bench()
    bench.tick()
    IntervalSchedule.objects.update(every=4, period="seconds")
    assert bench.tick(1) == 5.0
    PeriodicTasks.update_changed()
    assert bench.tick(1) == 4.0
    IntervalSchedule.objects.update(every=3)
    assert bench.tick(LOOK_AGAIN) == 3.0


def test_it_says_what_it_sends(lines: pytest.LogCaptureFixture) -> None:
    row = periodic_task(name="pul\nse", interval=10, next_run_at=NOON)
    bench = Bench()
    bench.tick()
    assert "djq.beat.started enabled_schedules=1" in lines.text
    assert f'djq.tick.sent schedule="pul\\nse" task={row.task} id=' in lines.text
    assert "slot=2030-05-01T12:00:00+00:00" in lines.text
    assert "caught_up" not in lines.text
    bench.beat.stop()
    assert "djq.beat.stopped tasks_sent=1" in lines.text


def test_it_says_what_it_made_up_for(lines: pytest.LogCaptureFixture) -> None:
    periodic_task(name="pulse", interval=10, next_run_at=NOON - timedelta(hours=4))
    Bench().tick()
    assert 'djq.tick.caught_up schedule="pulse" missed_from=2030-05-01T08:00:00' in lines.text
    assert "sent_for=2030-05-01T12:00:00" in lines.text


def test_it_says_what_is_broken_and_what_is_over(lines: pytest.LogCaptureFixture) -> None:
    row = periodic_task(name="broken", next_run_at=NOON)
    periodic_task(name="over", next_run_at=NOON, expires=NOON)
    bench = Bench()
    bench.away = ValueError("args is not JSON")
    bench.tick()
    assert 'djq.tick.broken schedule="broken" error=args is not JSON' in lines.text
    assert 'djq.tick.expired schedule="over"' in lines.text
    row.refresh_from_db()
    assert row.last_error == "args is not JSON"


def test_an_outage_is_told_once_and_ends_nothing(lines: pytest.LogCaptureFixture) -> None:
    periodic_task(interval=10, next_run_at=NOON)
    bench = Bench()
    bench.away = exceptions.OperationalError("connection refused")
    pauses = [bench.tick(), *(bench.tick(1) for _ in range(6))]
    assert pauses == sorted(pauses)
    assert max(pauses) == LONGEST_RETRY
    bench.away = None
    bench.tick(5)
    assert bench.sent == [NOON + 10 * SECOND]
    assert lines.text.count("djq.beat.database_lost error=connection refused") == 1
    assert lines.text.count("djq.beat.database_restored after_s=11.0") == 1


def test_entries_of_the_settings_are_kept_at_the_first_round(
    settings: Any, lines: pytest.LogCaptureFixture
) -> None:
    entries = {"pulse": {"task": "t", "schedule": schedule(30)}, "broken": {"task": "t"}}
    settings.DJQUEUE = {"RESULT_EXPIRES": None, "BEAT_SCHEDULE": entries}
    bench = Bench()
    bench.tick()
    assert PeriodicTask.objects.get().name == "pulse"
    assert "djq.beat.setting_refused BEAT_SCHEDULE[\"broken\"]: It has no 'schedule'." in lines.text
    settings.DJQUEUE = {"RESULT_EXPIRES": None, "BEAT_SCHEDULE": {}}
    Bench().tick()
    assert 'djq.beat.setting_removed schedule="pulse"' in lines.text
    assert not PeriodicTask.objects.exists()


def test_the_clean_up_of_results_is_scheduled_where_it_is_needed(settings: Any) -> None:
    settings.DJQUEUE = {"RESULT_EXPIRES": 3600, "RESULT_BACKEND": "django-db"}
    Bench().tick()
    row = PeriodicTask.objects.get(name="celery.backend_cleanup")
    assert row.in_words == "every day at 04:00 Europe/Oslo"
    settings.DJQUEUE = {"RESULT_EXPIRES": None, "RESULT_BACKEND": "django-db"}
    Bench().tick()
    assert not PeriodicTask.objects.exists()


def test_listeners_hear_of_its_start() -> None:
    heard: list[Any] = []

    def listen(sender: Any, **_: Any) -> None:
        heard.append(sender)

    signals.beat_init.connect(listen)
    try:
        bench = Bench()
        bench.beat.start()
    finally:
        signals.beat_init.disconnect(listen)
    assert heard == [bench.beat]


def test_a_worker_may_have_a_beat_of_its_own() -> None:
    component = BeatComponent()
    component.start()
    assert 0 < component.tick(1000.0) <= 5.0
    component.stop()
