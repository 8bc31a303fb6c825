"""Pools with what they run in a worker: real tasks, executed as a worker executes them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection

from djqueue import states
from djqueue.core.calls import asked
from djqueue.core.protocol import encode
from djqueue.tasks.execution import perform
from djqueue.worker.pools.contract import Job
from tests.contracts.pools.conftest import MakeDriver
from tests.contracts.pools.driver import Driver
from tests.project import tasks


@pytest.fixture(params=["prefork", "threads", "solo"])
def worker(request: pytest.FixtureRequest, make_driver: MakeDriver) -> Driver:
    """A pool of each kind that runs real tasks."""
    return make_driver(request.param, perform=perform)


def call(driver: Driver, task: Any, *args: Any, **limits: Any) -> Job:
    """Return the job that `task.delay(*args)` would become."""
    job = driver.job("nothing", **limits)
    job.message = encode(asked(task.plan, args, {}, {}))
    return job


def test_a_task_runs_and_its_result_comes_back(worker: Driver) -> None:
    jobs = [call(worker, tasks.add, 2, 3), call(worker, tasks.add_later, 3, 4), call(worker, tasks.fail)]
    worker.run_all(jobs, within=10)
    outcomes = [worker.finished[job.number] for job in jobs]
    assert [outcome.state for outcome in outcomes] == [states.SUCCESS, states.SUCCESS, states.FAILURE]
    results = [outcome.document.result for outcome in outcomes[:2] if outcome.document]
    assert results == ["5", "7"]


@pytest.mark.parametrize("kind", ["prefork", "threads"])
def test_progress_arrives_while_the_task_runs(kind: str, make_driver: MakeDriver, tmp_path: Path) -> None:
    driver = make_driver(kind, perform=perform)
    path = tmp_path / "go"
    job = call(driver, tasks.report_progress, str(path))
    driver.submit(job)
    (document,) = driver.until(lambda: driver.updates.get(job.number), 5, "for the state")
    assert document.status == "PROGRESS"
    path.touch()
    assert driver.outcome(job.number).state == states.SUCCESS


@pytest.mark.parametrize("kind", ["prefork", "threads"])
def test_a_task_beyond_its_soft_limit_fails_with_it(
    kind: str, make_driver: MakeDriver, tmp_path: Path
) -> None:
    driver = make_driver(kind, perform=perform)
    job = call(driver, tasks.wait_for_file, str(tmp_path / "never"), soft_limit=0.1)
    driver.submit(job)
    outcome = driver.outcome(job.number)
    assert outcome.state == states.FAILURE
    assert "SoftTimeLimitExceeded" in outcome.summary


def test_a_child_dies_with_its_task_and_the_next_one_runs(make_driver: MakeDriver) -> None:
    driver = make_driver("prefork", perform=perform)
    left = call(driver, tasks.leave, 3)
    driver.submit(left)
    assert "exited with status 3" in driver.loss(left.number).cause
    driver.ready()
    job = call(driver, tasks.describe)
    driver.submit(job)
    assert driver.outcome(job.number).state == states.SUCCESS


@pytest.mark.django_db(transaction=True)
def test_children_use_connections_of_their_own(make_driver: MakeDriver) -> None:
    connection.ensure_connection()  # open before the fork, against the rules
    driver = make_driver("prefork", perform=perform)
    jobs = [call(driver, tasks.make_user, f"user-{at}") for at in range(20)]
    driver.run_all(jobs, within=20)
    assert {outcome.state for outcome in driver.finished.values()} == {states.SUCCESS}
    assert get_user_model().objects.count() == 20


def test_an_idle_pool_asks_for_no_attention(worker: Driver) -> None:
    worker.run_all([call(worker, tasks.add, 1, 1) for _ in range(5)], within=10)
    worker.cycle(0)
    assert worker.pool.tend(time.monotonic()) == float("inf")
