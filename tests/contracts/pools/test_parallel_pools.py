"""What pools promise that run several jobs at a time: nothing waits for a long one without need."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.contracts.pools.conftest import MakeDriver
from tests.contracts.pools.driver import Driver


def test_outcomes_arrive_while_a_long_job_runs(parallel: Driver, tmp_path: Path) -> None:
    path = str(tmp_path / "go")
    long = parallel.do("wait_for", path)
    for _ in range(20):
        parallel.outcome(parallel.do("nothing"))
    assert long not in parallel.finished
    Path(path).touch()
    assert parallel.answer(long) == path


@pytest.mark.parametrize("kind", ["prefork", "threads"])
def test_a_finished_result_does_not_wait_behind_a_long_job_in_the_same_line(
    kind: str, make_driver: MakeDriver, tmp_path: Path
) -> None:
    driver = make_driver(kind, size=1)
    path = tmp_path / "go"
    quick = [driver.job("nothing", expected_runtime=0.0005) for _ in range(5)]
    slow = driver.job("wait_for", str(path), expected_runtime=0.0005)  # nobody knows that it is slow
    driver.submit(*quick, slow)
    driver.until(lambda: len(driver.finished) == 5, 5, "for the quick ones to be reported")
    path.touch()
    driver.outcome(slow.number)


def test_short_jobs_do_not_wait_behind_a_long_one_while_a_child_is_free(
    parallel: Driver, tmp_path: Path
) -> None:
    path = tmp_path / "go"
    slow = parallel.job("wait_for", str(path), expected_runtime=0.0005)  # nobody knows that it is slow
    quick = [parallel.job("nothing", expected_runtime=0.0005) for _ in range(15)]
    waiting = [slow, *quick]
    parallel.submit(*waiting)
    by_number = {job.number: job for job in waiting}

    def quick_ones_are_done() -> bool:
        while parallel.returned:
            parallel.submit(by_number[parallel.returned.pop()])
        return len(parallel.finished) == len(quick)

    parallel.until(quick_ones_are_done, 5, "for the quick ones to pass the slow one")
    assert slow.number not in parallel.finished
    path.touch()
    parallel.outcome(slow.number)


def test_a_state_arrives_at_once_while_the_job_runs(parallel: Driver, tmp_path: Path) -> None:
    path = tmp_path / "go"
    number = parallel.do("report", str(path), 1)
    parallel.until(lambda: number in parallel.updates, 5, "for the state")
    assert number not in parallel.finished
    path.touch()
    parallel.outcome(number)


def test_running_jobs_are_told_with_their_beginning(parallel: Driver, tmp_path: Path) -> None:
    path = tmp_path / "go"
    before = time.monotonic()
    number = parallel.do("wait_for", str(path))
    (started,) = parallel.until(lambda: list(parallel.pool.running()), 5, "for the job to start")
    assert (started.number, started.tag) == (number, f"tag-{number}")
    assert before <= started.since <= time.monotonic()
    path.touch()
    parallel.outcome(number)
    assert list(parallel.pool.running()) == []


def test_what_has_not_started_is_taken_back(parallel: Driver, tmp_path: Path) -> None:
    path = tmp_path / "go"
    jobs = [parallel.job("wait_for", str(path), expected_runtime=0.0005) for _ in range(10)]
    parallel.submit(*jobs)
    parallel.until(lambda: len(list(parallel.pool.running())) == 2, 5, "for both children to be busy")
    parallel.pool.take_back()
    parallel.until(lambda: len(parallel.returned) == 8, 5, "for the others to be returned")
    assert not parallel.finished
    path.touch()
    parallel.until(parallel.is_settled, 5, "for the running ones to end")
    assert len(parallel.finished) == 2


def test_a_job_that_has_not_started_can_be_terminated(parallel: Driver, tmp_path: Path) -> None:
    path = tmp_path / "go"
    parallel.submit(*(parallel.job("wait_for", str(path)) for _ in range(2)))
    waiting = parallel.do("nothing")
    assert parallel.pool.terminate(waiting, "revoked") is True
    parallel.until(lambda: parallel.returned == [waiting], 5, "for the job to be returned")
    path.touch()
    parallel.until(parallel.is_settled, 5, "for the others to end")


def test_the_soft_limit_is_raised_in_the_job_once(parallel: Driver, tmp_path: Path) -> None:
    path = tmp_path / "go"
    number = parallel.do("ignore_the_soft_limit", str(path), soft_limit=0.05)
    began = time.monotonic()
    parallel.until(lambda: time.monotonic() - began > 0.5, 2, "for several chances to raise it")
    path.touch()
    assert parallel.answer(number) == 1


def test_the_soft_limit_leaves_other_jobs_alone(parallel: Driver, tmp_path: Path) -> None:
    path = tmp_path / "go"
    limited = parallel.do("wait_or_be_stopped", str(path), soft_limit=0.05)
    free = parallel.do("wait_or_be_stopped", str(path))
    assert parallel.answer(limited) == "stopped"
    path.touch()
    assert parallel.answer(free) == str(path)


def test_a_soft_limit_that_nobody_catches_times_the_job_out(parallel: Driver, tmp_path: Path) -> None:
    number = parallel.do("wait_for", str(tmp_path / "never"), soft_limit=0.05)
    assert parallel.loss(number).timed_out == 0.05


def test_at_the_hard_limit_the_job_is_lost_and_its_place_is_free(parallel: Driver, tmp_path: Path) -> None:
    path = tmp_path / "go"
    began = time.monotonic()
    numbers = [parallel.do("wait_for", str(path), hard_limit=0.1) for _ in range(2)]
    for number in numbers:
        lost = parallel.loss(number)
        assert lost.timed_out == 0.1
        assert lost.started
        assert "0.1 s" in lost.cause
    assert time.monotonic() - began < 1.1
    parallel.ready()
    parallel.outcome(parallel.do("nothing"))
    path.touch()  # whoever is still there may end; nobody hears of it
    parallel.outcome(parallel.do("nothing"))


def test_closing_abandons_what_runs(parallel: Driver, tmp_path: Path) -> None:
    path = tmp_path / "go"
    parallel.do("wait_for", str(path))
    parallel.until(lambda: list(parallel.pool.running()), 5, "for the job to start")
    began = time.monotonic()
    parallel.pool.close()
    assert time.monotonic() - began < 2
    path.touch()


@pytest.mark.parametrize("kind", ["prefork", "threads"])
def test_unknown_and_slow_jobs_are_handed_out_one_at_a_time(
    kind: str, make_driver: MakeDriver, tmp_path: Path
) -> None:
    driver = make_driver(kind, size=2)
    path = tmp_path / "go"
    driver.submit(*(driver.job("wait_for", str(path), expected_runtime=0.5) for _ in range(2)))
    assert driver.pool.room() == 0
    path.touch()
    driver.until(driver.is_settled, 5, "for both to end")
    assert driver.pool.room() == 2
    driver.submit(driver.job("nothing", expected_runtime=0.0002))
    driver.until(driver.is_settled, 5, "for it to end")
    assert driver.pool.room() > 10
