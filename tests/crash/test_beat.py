"""Kill beats with SIGKILL while others run, freeze them, let three compete: each slot exactly once.

The messages in the queue are the ledger: each carries its entry and its slot, and nobody consumes them.
Delivery promises S01, S02, S06 and S11 on the database broker.
"""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from djqueue.models import Message
from djqueue_beat.models import PeriodicTask
from djqueue_beat.store import slot_id
from tests.support.processes import Command, Processes
from tests.support.waiting import wait_until
from tests.unit.beat.rows import periodic_task

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]

ENTRIES = 30
INTERVAL = timedelta(seconds=1)
WAIT = 60.0


def start(processes: Processes, count: int = 1) -> list[Command]:
    """Start so many beats, and return them once all of them work."""
    beats = [processes.start("runbeat", "--max-interval", "0.5") for _ in range(count)]
    for beat in beats:
        beat.wait_for_line("djq.beat.started", within=30)
    return beats


def schedules(count: int = ENTRIES) -> list[PeriodicTask]:
    """Make entries that are due every second from a moment ago on."""
    start_time = datetime.now(UTC).replace(microsecond=0)
    return [
        periodic_task(name=f"entry {number}", interval=1, start_time=start_time) for number in range(count)
    ]


def slots_sent() -> Counter[tuple[str, datetime]]:
    """How often each slot of each entry was sent for."""
    found: Counter[tuple[str, datetime]] = Counter()
    for text in Message.objects.values_list("headers", flat=True):
        headers = json.loads(text)
        slot = datetime.fromisoformat(headers["periodic_task_slot"])
        found[headers["periodic_task_name"], slot] += 1
    return found


def latest(name: str) -> datetime:
    return max(
        (slot for entry, slot in slots_sent() if entry == name), default=datetime.min.replace(tzinfo=UTC)
    )


def check(rows: list[PeriodicTask]) -> None:
    """Each slot at most once, under its own id, as often as the row says, and on the grid."""
    sent = slots_sent()
    assert set(sent.values()) == {1}
    assert Message.objects.values("task_id").distinct().count() == Message.objects.count()
    for row in rows:
        row.refresh_from_db()
        slots = sorted(slot for name, slot in sent if name == row.name)
        assert row.total_run_count == len(slots)
        assert row.last_slot == slots[-1]
        assert row.errors == 0
        assert all(slot.microsecond == 0 for slot in slots)
        assert Message.objects.filter(task_id=slot_id(row, slots[-1])).count() == 1


def gaps(row: PeriodicTask) -> list[timedelta]:
    slots = sorted(slot for name, slot in slots_sent() if name == row.name)
    return [later - earlier for earlier, later in itertools.pairwise(slots)]


def test_three_beats_send_each_slot_once(processes: Processes) -> None:
    rows = schedules()
    beats = start(processes, 3)
    begin = datetime.now(UTC)
    wait_until(lambda: latest(rows[0].name) > begin + 5 * INTERVAL, WAIT, "for five more slots")
    assert [beat.terminate() for beat in beats] == [0, 0, 0]
    check(rows)


def test_beats_killed_under_load_send_each_slot_once(processes: Processes) -> None:
    rows = schedules(100)
    chance = random.Random(7)
    beats = start(processes, 2)
    for _ in range(4):
        seen = latest(rows[-1].name)
        wait_until(lambda seen=seen: latest(rows[-1].name) > seen, WAIT, "for the beats to go on")  # type: ignore[misc]
        beats.pop(chance.randrange(2)).kill()
        beats += start(processes)
    seen = latest(rows[0].name)
    wait_until(lambda: latest(rows[0].name) > seen, WAIT, "for the last beats to send")
    for beat in beats:
        assert beat.terminate() == 0
        assert "Traceback" not in beat.log()
    check(rows)


def test_a_lone_beat_that_is_killed_is_made_up_for_by_the_next(processes: Processes) -> None:
    rows = schedules()
    (beat,) = start(processes)
    wait_until(lambda: len(slots_sent()) > ENTRIES, WAIT, "for a first round")
    beat.kill()
    killed = datetime.now(UTC)
    (beat,) = start(processes)
    wait_until(lambda: latest(rows[0].name) > killed + INTERVAL, WAIT, "for the next beat to catch up")
    assert beat.terminate() == 0
    check(rows)
    # What was missed while nobody ran is one run, not many: no two slots are nearer than the interval.
    assert min(gaps(rows[0])) >= INTERVAL


def test_a_beat_that_was_frozen_sends_nothing_that_another_has_sent(processes: Processes) -> None:
    rows = schedules()
    frozen, other = start(processes, 2)
    wait_until(lambda: len(slots_sent()) > ENTRIES, WAIT, "for a first round")
    frozen.stop()
    seen = datetime.now(UTC)
    wait_until(
        lambda: latest(rows[0].name) > seen + 3 * INTERVAL or "database is locked" in other.log(),
        WAIT,
        "for the other to go on",
    )
    frozen.cont()
    seen = latest(rows[0].name)
    wait_until(lambda: latest(rows[0].name) > seen + 2 * INTERVAL, WAIT, "for both to go on")
    assert frozen.terminate() == other.terminate() == 0
    check(rows)


def test_switched_off_under_load_an_entry_is_not_sent_any_more(processes: Processes) -> None:
    rows = schedules()
    beats = start(processes, 2)
    wait_until(lambda: len(slots_sent()) > ENTRIES, WAIT, "for a first round")
    off = rows[0]
    off.refresh_from_db()
    off.enabled = False
    off.save()
    switched = datetime.now(UTC)
    wait_until(lambda: latest(rows[1].name) > switched + 3 * INTERVAL, WAIT, "for the others to go on")
    for beat in beats:
        assert beat.terminate() == 0
    assert latest(off.name) <= switched
    off.refresh_from_db()
    assert (off.enabled, off.next_run_at) == (False, None)
    check(rows[1:])
