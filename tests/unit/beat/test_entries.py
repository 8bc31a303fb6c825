"""BEAT_SCHEDULE: what an entry may hold, what becomes of it, what a mistake says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from djqueue.schedules import BaseSchedule, clocked, crontab, schedule
from djqueue_beat.entries import CLEAN_UP, Entry, read_entries


def read_one(given: Any, name: str = "an entry") -> Entry:
    entries = read_entries({name: given}, with_clean_up=False)
    assert not entries.mistakes
    return entries.good[0]


def mistake(given: Any) -> str:
    entries = read_entries({"an entry": given}, with_clean_up=False)
    assert not entries.good
    return entries.mistakes["an entry"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (30, schedule(30)),
        (0.5, schedule(0.5)),
        (timedelta(hours=1), schedule(3600)),
        (crontab(minute=0), crontab(minute=0)),
        (schedule(60, relative=True), schedule(60, relative=True)),
    ],
)
def test_a_schedule_may_be_written_in_every_way(given: Any, expected: BaseSchedule) -> None:
    assert read_one({"task": "shop.tasks.report", "schedule": given}).schedule == expected


def test_arguments_become_json() -> None:
    entry = read_one({"task": "t", "schedule": 1, "args": (1, "a"), "kwargs": {"day": "mon"}})
    assert (entry.columns["args"], entry.columns["kwargs"]) == ('[1, "a"]', '{"day": "mon"}')


def test_options_have_columns_of_their_own_and_the_rest_is_kept() -> None:
    until = datetime(2030, 1, 1, tzinfo=UTC)
    options = {"queue": "slow", "priority": 3, "headers": {"h": 1}, "expires": until, "time_limit": 60}
    columns = read_one({"task": "t", "schedule": 1, "options": options}).columns
    assert columns["queue"] == "slow"
    assert columns["priority"] == 3
    assert columns["headers"] == '{"h": 1}'
    assert columns["expires"] == until
    assert columns["expire_seconds"] is None
    assert columns["options"] == '{"time_limit": 60}'


@pytest.mark.parametrize(("expires", "seconds"), [(90, 90), (0.2, 1), (timedelta(minutes=2), 120)])
def test_expiry_after_a_time_counts_from_each_sending(expires: Any, seconds: int) -> None:
    columns = read_one({"task": "t", "schedule": 1, "options": {"expires": expires}}).columns
    assert (columns["expire_seconds"], columns["expires"]) == (seconds, None)


def test_relative_is_kept_for_intervals() -> None:
    assert read_one({"task": "t", "schedule": 60, "relative": True}).columns["relative"] is True
    assert read_one({"task": "t", "schedule": crontab(), "relative": True}).columns["relative"] is False


def test_a_single_moment_is_sent_once() -> None:
    when = clocked(datetime(2030, 1, 1, tzinfo=UTC))
    assert read_one({"task": "t", "schedule": when}).columns["one_off"] is True


class Custom(BaseSchedule):
    """A schedule of the user's own, for which there is no table."""

    def next_after(self, moment: datetime) -> datetime:
        return moment

    def describe(self) -> str:
        return "now and then"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("daily", "must be a dictionary with 'task' and 'schedule'"),
        ({"task": "t"}, "It has no 'schedule'"),
        ({}, "It has no 'task' and no 'schedule'"),
        ({"task": "t", "shedule": 1}, "Did you mean 'schedule'?"),
        ({"task": 7, "schedule": 1}, "'task' must be the name of a task"),
        ({"task": "t", "schedule": "10"}, "number of seconds, a timedelta or a schedule"),
        ({"task": "t", "schedule": 0}, "longer than 0"),
        ({"task": "t", "schedule": 1, "args": {"a": 1}}, "args of t must be a list"),
        ({"task": "t", "schedule": 1, "args": [object()]}, "'args' of 'an entry' cannot be kept"),
        ({"task": "t", "schedule": 1, "options": {"qeue": "x"}}, "Did you mean 'queue'?"),
        ({"task": "t", "schedule": 1, "options": ["queue"]}, "'options' must be a dictionary"),
        ({"task": "t", "schedule": 1, "one_off": "yes"}, "'one_off' must be a bool"),
        ({"task": "t", "schedule": 1, "start_time": "2030-01-01"}, "'start_time' must be a datetime"),
        ({"task": "t", "schedule": Custom()}, "beat's tables keep"),
    ],
)
def test_a_mistake_says_what_is_wrong(given: Any, says: str) -> None:
    assert says in mistake(given)


def test_a_mistake_leaves_the_other_entries_alone() -> None:
    entries = read_entries({"bad": {}, "good": {"task": "t", "schedule": 1}}, with_clean_up=False)
    assert [entry.name for entry in entries.good] == ["good"]
    assert sorted(entries.names) == ["bad", "good"]


def test_the_clean_up_of_results_is_added_when_it_is_needed() -> None:
    (entry,) = read_entries({}, with_clean_up=True).good
    assert entry.name == CLEAN_UP == entry.columns["task"]
    assert entry.schedule == crontab(minute=0, hour=4)
    assert entry.columns["expire_seconds"] == 12 * 3600


def test_an_entry_of_the_same_name_replaces_the_clean_up() -> None:
    own = {CLEAN_UP: {"task": CLEAN_UP, "schedule": 3600}}
    (entry,) = read_entries(own, with_clean_up=True).good
    assert entry.schedule == schedule(3600)
