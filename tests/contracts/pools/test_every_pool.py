"""What every pool promises: each job comes back exactly once, whatever it does."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from djqueue.messaging.startboard import StartBoard
from djqueue.worker import pools
from djqueue.worker.pools.contract import Finished, StateUpdate
from tests.contracts.pools import deeds
from tests.contracts.pools.driver import Driver


def test_every_job_comes_back_exactly_once(driver: Driver) -> None:
    jobs = [driver.job("nothing", expected_runtime=(0.0001, 0.0, 0.004)[at % 3]) for at in range(600)]
    driver.run_all(jobs, within=30)
    assert sorted(driver.finished) == [job.number for job in jobs]
    assert not driver.lost


def test_more_jobs_than_there_is_room_for_come_back_too(driver: Driver) -> None:
    driver.submit(*(driver.job("nothing") for _ in range(100)))
    driver.until(lambda: len(driver.finished) == 100, 20, "for all jobs to end")


def test_a_job_brings_along_all_that_the_task_may_know(driver: Driver) -> None:
    number = driver.do("echo", starts=3, headers={"shadow": "x", "nested": {"a": [1, None, 2.5]}})
    headers, delivery_info, starts, worker = driver.answer(number)
    assert headers["nested"] == {"a": [1, None, 2.5]}
    assert delivery_info == {"queue": "default"}
    assert starts == 3
    assert worker == "w1@here"


def test_headers_that_are_no_plain_values_arrive_as_text(driver: Driver) -> None:
    class Loud(str):
        def __str__(self) -> str:
            return "something else"

    moment = datetime(2024, 2, 29, 12, tzinfo=UTC)
    number = driver.do("echo", headers={"timestamp": moment, "loud": Loud("plain"), "body": [(1, 2)]})
    headers, *_ = driver.answer(number)
    assert headers["timestamp"] == str(moment)
    assert headers["loud"] == "plain"
    assert headers["body"] == [[1, 2]]


def test_states_come_before_the_end(driver: Driver, tmp_path: Path) -> None:
    path = tmp_path / "go"
    path.touch()
    number = driver.do("report", str(path), 3)
    driver.outcome(number)
    assert [document.result for document in driver.updates[number]] == ["0", "1", "2"]
    assert isinstance(driver.order[-1], Finished)
    assert all(isinstance(report, StateUpdate) for report in driver.order[:-1])


@pytest.mark.parametrize(
    "raised", [("SystemExit", 3), ("SystemExit",), ("KeyboardInterrupt",), ("MemoryError", "no more")]
)
def test_what_is_raised_out_of_a_job_is_a_loss_and_not_the_end(
    driver: Driver, raised: tuple[str, ...]
) -> None:
    number = driver.do("raise_", *raised)
    lost = driver.loss(number)
    assert lost.started
    assert raised[0] in lost.cause
    assert lost.timed_out is None
    driver.ready(1)
    driver.outcome(driver.do("nothing"))


def test_there_is_no_room_while_unknown_jobs_run(driver: Driver) -> None:
    room = driver.pool.room()
    assert room == driver.pool.size
    driver.submit(*(driver.job("nothing") for _ in range(room)))
    if driver.pool.room():  # they ran meanwhile; solo runs them at once, so it must wait to be collected
        driver.cycle(0)
        assert driver.finished
    driver.until(driver.is_settled, 10, "for the jobs to end")
    assert driver.pool.room() == room


def test_taking_back_when_nothing_waits_changes_nothing(driver: Driver) -> None:
    driver.pool.take_back()
    driver.outcome(driver.do("nothing"))
    driver.pool.take_back()
    driver.cycle(0)
    assert driver.returned == []


def test_a_job_that_is_not_there_cannot_be_terminated(driver: Driver) -> None:
    assert driver.pool.terminate(99, "nobody wants it") is False


@pytest.mark.parametrize("kind", pools.POOL_KINDS)
def test_a_pool_can_be_closed_twice_and_without_having_started(kind: str) -> None:
    pool = pools.create(
        kind, size=2, board=StartBoard.create(None, 4), worker="w1@here", perform=deeds.perform
    )
    pool.close()
    pool.start()
    pool.close()
    pool.close()
