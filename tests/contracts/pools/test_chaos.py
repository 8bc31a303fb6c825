"""Everything at once: whatever happens to children while jobs of all kinds run, none is lost or doubled."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from djqueue.worker.pools.contract import Job
from tests.contracts.pools.conftest import MakeDriver
from tests.contracts.pools.driver import Driver


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_job_comes_back_once_whatever_happens_to_children(
    make_driver: MakeDriver, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    driver = make_driver("prefork", size=3, max_tasks_per_child=40)
    book = tmp_path / "book"
    jobs = {job.number: job for job in (some_job(driver, chance, tmp_path, at) for at in range(1500))}
    left = list(jobs.values())
    disturb_at = time.monotonic()
    deadline = time.monotonic() + 40
    while len(driver.finished) + len(driver.lost) < len(jobs):
        assert time.monotonic() < deadline, driver
        left.extend(jobs[driver.returned.pop()] for _ in list(driver.returned))
        if left and (room := driver.pool.room()):
            room = chance.choice((room, room, room + 5))
            driver.submit(*left[:room])
            del left[:room]
        if time.monotonic() >= disturb_at:
            disturb_at += 0.02
            chance.choice((kill_a_child, take_back, stop_a_child_for_a_moment, terminate_one))(driver, chance)
        driver.cycle(0.01)
    starts = Counter(book.read_text().split())
    assert max(starts.values()) == 1, "a job was started that was reported as returned"
    finished = {str(number) for number in driver.finished if jobs[number].name == "note"}
    assert finished <= starts.keys()
    assert len(finished) > len(jobs) / 2


def some_job(driver: Driver, chance: random.Random, tmp_path: Path, number: int) -> Job:
    """Return a job of any kind; what is expected of it may be wrong."""
    expected = chance.choice((0.0, 0.0005, 0.0005, 0.0005, 0.02))
    kind = chance.random()
    if kind < 0.95:
        return driver.job("note", str(tmp_path / "book"), str(number + 1), expected_runtime=expected)
    if kind < 0.97:
        return driver.job("kill_self", 9, expected_runtime=expected)
    if kind < 0.98:
        return driver.job("raise_", "SystemExit", 1, expected_runtime=expected)
    limits = {"soft_limit": 0.02} if kind < 0.99 else {"hard_limit": 0.02}
    return driver.job("wait_or_be_stopped", str(tmp_path / "never"), expected_runtime=expected, **limits)


def pids(driver: Driver) -> list[int]:
    return [child.pid for child in driver.pool._children.values()]  # type: ignore[attr-defined]


def kill_a_child(driver: Driver, chance: random.Random) -> None:
    if known := pids(driver):
        with suppress(ProcessLookupError):
            os.kill(chance.choice(known), signal.SIGKILL)


def take_back(driver: Driver, chance: random.Random) -> None:
    driver.pool.take_back()


def stop_a_child_for_a_moment(driver: Driver, chance: random.Random) -> None:
    if known := pids(driver):
        pid = chance.choice(known)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            driver.cycle(0.01)
            os.kill(pid, signal.SIGCONT)


def terminate_one(driver: Driver, chance: random.Random) -> None:
    running = list(driver.pool.running())
    if running:
        driver.pool.terminate(chance.choice(running).number, "it was chosen")
