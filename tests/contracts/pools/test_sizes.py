"""Pools that grow and shrink while they work: nothing that runs is cut short, nothing gets lost."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from djqueue.worker import pools
from djqueue.worker.pools.contract import Pool
from tests.contracts.pools.conftest import MakeDriver
from tests.contracts.pools.driver import Driver


def running(driver: Driver) -> set[int]:
    return {started.number for started in driver.pool.running()}


def start(driver: Driver, count: int, path: Path) -> list[int]:
    """Start jobs that run until the file is there, and wait until they all run."""
    numbers = [driver.do("wait_for", str(path)) for _ in range(count)]
    driver.until(lambda: running(driver) >= set(numbers), 10, "for all of them to run")
    return numbers


def test_a_pool_that_has_grown_runs_more_at_a_time(parallel: Driver, tmp_path: Path) -> None:
    path = tmp_path / "go"
    start(parallel, 2, path)
    parallel.pool.grow(2)
    assert parallel.pool.size == 4
    numbers = start(parallel, 2, path)
    path.touch()
    assert [parallel.answer(number) for number in numbers] == [str(path)] * 2


def test_a_pool_that_shrinks_lets_everything_end_that_runs(parallel: Driver, tmp_path: Path) -> None:
    path, later = tmp_path / "go", tmp_path / "later"
    numbers = start(parallel, 2, path)
    parallel.pool.shrink(1)
    assert parallel.pool.size == 1
    path.touch()
    assert [parallel.answer(number) for number in numbers] == [str(path)] * 2
    start(parallel, 1, later)
    waits = parallel.do("wait_for", str(later))
    parallel.until(lambda: parallel.pool.room() == 0, 10, "for the pool to be full")
    parallel.cycle(0.1)
    assert waits not in running(parallel)
    later.touch()
    parallel.until(parallel.is_settled, 10, "for both")


def test_what_a_dismissed_child_had_not_started_goes_to_others(
    make_driver: MakeDriver, tmp_path: Path
) -> None:
    driver = make_driver("prefork", size=2)
    path = tmp_path / "go"
    start(driver, 1, tmp_path / "other")
    slow = driver.job("wait_for", str(path), expected_runtime=0.0005)  # nobody knows that it is slow
    behind = [driver.job("nothing", expected_runtime=0.0005) for _ in range(5)]
    driver.submit(slow, *behind)
    driver.until(lambda: slow.number in running(driver), 10, "for the slow one to run")
    driver.pool.shrink(2)
    driver.until(lambda: len(driver.returned) == 5, 10, "for the others to come back")
    path.touch()
    assert driver.answer(slow.number) == str(path)


def test_a_pool_may_come_down_to_nothing_and_grow_again(parallel: Driver) -> None:
    parallel.pool.shrink(2)
    assert (parallel.pool.size, parallel.pool.room()) == (0, 0)
    waits = parallel.do("nothing")
    parallel.cycle(0.1)
    assert waits not in parallel.finished
    parallel.pool.grow(1)
    parallel.outcome(waits)


def test_a_pool_is_never_larger_than_its_board_and_never_smaller_than_nothing(parallel: Driver) -> None:
    with pytest.raises(ValueError, match="cannot grow by 100"):
        parallel.pool.grow(100)
    with pytest.raises(ValueError, match="cannot shrink by 3"):
        parallel.pool.shrink(3)
    assert parallel.pool.size == 2
    parallel.outcome(parallel.do("nothing"))


def test_the_solo_pool_has_one_size(make_driver: MakeDriver) -> None:
    pool: Pool = make_driver("solo", size=1).pool
    for change in (pool.grow, pool.shrink):
        with pytest.raises(NotImplementedError, match="SoloPool has one size only"):
            change(1)


@pytest.mark.parametrize("kind", ["prefork", "threads"])
def test_jobs_survive_any_change_of_size(kind: str, make_driver: MakeDriver, tmp_path: Path) -> None:
    driver = make_driver(kind, size=5, slots=400)
    chance = random.Random(5)
    notes = tmp_path / "notes"
    jobs = [driver.job("note", str(notes), str(n), expected_runtime=0.001) for n in range(2_000)]
    left, by_number = list(jobs), {job.number: job for job in jobs}

    def step() -> bool:
        while driver.returned:
            left.append(by_number[driver.returned.pop()])
        change = chance.randint(0, 5) - driver.pool.size
        if change > 0:
            driver.pool.grow(change)
        elif change < 0:
            driver.pool.shrink(-change)
        if (room := driver.pool.room()) > 0:
            driver.submit(*left[:room])
            del left[:room]
        return len(driver.finished) == len(jobs)

    driver.until(step, 60, "for all of them to be done")
    assert sorted(map(int, notes.read_text().split())) == list(range(2_000))
    assert driver.lost == {}
    assert isinstance(driver.pool, pools.Pool)


def test_new_children_take_the_place_of_all_and_have_what_was_imported(
    make_driver: MakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "brand_new.py").write_text("HERE = True")
    monkeypatch.syspath_prepend(tmp_path)
    driver = make_driver("prefork", size=2)
    before = set(driver.pool.pids())
    path = tmp_path / "go"
    (busy,) = start(driver, 1, path)
    driver.pool.restart(["brand_new", "no.such.module"], reload=True)
    driver.until(lambda: len(set(driver.pool.pids()) - before) == 1, 10, "for the idle one to be replaced")
    assert busy in running(driver)
    path.touch()
    assert driver.answer(busy) == str(path)
    driver.until(lambda: not before & set(driver.pool.pids()), 10, "for the busy one to be replaced")
    driver.ready()
    assert driver.answer(driver.do("knows", "brand_new")) is True
    assert driver.pool.size == 2
    assert "brand_new" not in sys.modules  # it is the nursery's and the children's
