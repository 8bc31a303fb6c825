"""djqueue sends to a stock Celery worker, and reads the results."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from djqueue import app, chain, enqueue_many, exceptions
from djqueue.exceptions import (
    NotRegistered,
    SoftTimeLimitExceeded,
    TaskRevokedError,
    TimeLimitExceeded,
    WorkerLostError,
)
from tests.project import tasks
from tests.support.fleet import THEIRS, Fleet
from tests.support.ledger import ENDED, Ledger
from tests.support.processes import Command
from tests.support.waiting import wait_until
from tests.wire.stock import Expected

pytestmark = [pytest.mark.wire, pytest.mark.usefixtures("djqueue")]

WAIT = 20.0
OVER_RABBIT = True


@pytest.fixture(scope="module", autouse=True)
def stock_worker(fleet: Fleet) -> Command:
    return fleet.celery(task_track_started=True)


def send(task: Any, *args: Any, **options: Any) -> Any:
    return task.apply_async(args, queue=THEIRS, **options)


def test_arguments_and_results_travel_unchanged() -> None:
    kinds = [1, -2.5, "text", "ünïcödé \U0001f40d", None, True, [1, [2]], {"a": {"b": []}}]
    result = send(tasks.echo, *kinds, kwargs={"key": "värde", "deep": {"x": [1]}})
    assert result.get(timeout=WAIT) == [kinds, {"key": "värde", "deep": {"x": [1]}}]
    assert result.state == "SUCCESS"
    assert result.name == tasks.echo.name


def test_types_that_celery_writes_into_json_arrive_as_celery_reads_them() -> None:
    moment = datetime(2030, 1, 31, 12, 30, tzinfo=UTC)
    assert send(tasks.echo, moment, b"bytes").get(timeout=WAIT) == [[moment, b"bytes"], {}]


def test_many_sent_at_once_all_run() -> None:
    results = enqueue_many([tasks.add.s(number, 1).set(queue=THEIRS) for number in range(200)])
    assert [result.get(timeout=WAIT) for result in results] == [number + 1 for number in range(200)]


def test_a_countdown_runs_when_it_is_due() -> None:
    began = time.time()
    later = send(tasks.add, 1, 2, countdown=2)
    eta = send(tasks.add, 2, 2, eta=datetime.now(UTC) + timedelta(seconds=2))
    assert (later.get(timeout=WAIT), eta.get(timeout=WAIT)) == (3, 4)
    assert time.time() - began >= 2


def test_what_has_expired_is_revoked() -> None:
    with pytest.raises(TaskRevokedError, match="expired"):
        send(tasks.add, 1, 1, expires=datetime.now(UTC) - timedelta(seconds=1)).get(timeout=WAIT)
    assert send(tasks.add, 1, 1, expires=60).get(timeout=WAIT) == 2


def test_priorities_are_read_as_we_write_them(fleet: Fleet) -> None:
    queue = "by priority"
    sent = {priority: tasks.describe.apply_async(queue=queue, priority=priority) for priority in (9, 4, 6, 0)}
    fleet.celery("-P", "solo", "--prefetch-multiplier", "1", queue=queue, name="priorities")
    described = {priority: result.get(timeout=WAIT) for priority, result in sent.items()}
    assert {priority: one["priority"] for priority, one in described.items()} == {n: n for n in sent}
    ends = {priority: result.date_done for priority, result in sent.items()}
    assert sorted(ends, key=ends.__getitem__) == fleet.first_to_last


def test_retries_end_in_success_or_in_the_last_error() -> None:
    assert send(tasks.succeed_on_try, 3).get(timeout=WAIT) == 3
    with pytest.raises(Expected, match="try 6"):
        send(tasks.succeed_on_try, 100).get(timeout=WAIT)


def test_a_waiting_retry_shows_its_reason() -> None:
    result = send(tasks.succeed_on_try, 2, 600.0)
    wait_until(lambda: result.state == "RETRY", WAIT, "the task to ask for a retry")
    assert isinstance(result.result, Expected)
    assert "Retry in 600.0s" in (result.traceback or "")


def test_a_failure_arrives_as_its_exception_with_its_traceback() -> None:
    result = send(tasks.fail, "out of ink")
    with pytest.raises(Expected, match="out of ink"):
        result.get(timeout=WAIT)
    assert result.state == "FAILURE"
    assert "raise Expected(message)" in (result.traceback or "")


def test_an_exception_that_celery_had_to_wrap_is_unwrapped() -> None:
    with pytest.raises(tasks.Expected, match="not to be pickled"):
        app.send_task("tests.project.tasks.fail_unpicklably", queue=THEIRS).get(timeout=WAIT)


def test_a_wrong_call_fails_as_a_type_error() -> None:
    with pytest.raises(TypeError, match="unexpected"):
        app.send_task(tasks.add.name, kwargs={"unexpected": 1}, queue=THEIRS).get(timeout=WAIT)


def test_started_is_shown_with_pid_and_hostname() -> None:
    result = send(tasks.nap, 0.5)
    wait_until(lambda: result.state == "STARTED", WAIT, "the task to start")
    assert result.info["hostname"].startswith("stock@")
    assert result.get(timeout=WAIT) == 0.5


def test_an_ignored_result_is_not_stored(server: redis.Redis, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    ignored = send(tasks.record, str(ledger.path), ignore_result=True)
    wait_until(lambda: ledger.ids(ENDED) == [ignored.id], WAIT, "the task to end")
    assert ignored.get() is None
    assert send(tasks.add, 1, 1).get(timeout=WAIT) == 2
    assert server.exists(f"celery-task-meta-{ignored.id}") == 0


@pytest.mark.parametrize("method", ["zlib", "gzip", "bzip2", "lzma"])
def test_compressed_bodies_are_read(method: str) -> None:
    text = "inflate me " * 500
    assert send(tasks.echo, text, compression=method).get(timeout=WAIT) == [[text], {}]


def test_callbacks_run_on_success_and_error_callbacks_on_failure(tmp_path: Path) -> None:
    linked = send(tasks.add, 1, 2, link=tasks.add.s(10).set(queue=THEIRS))
    assert linked.get(timeout=WAIT) == 3
    (child,) = linked.children
    assert child.get(timeout=WAIT) == 13
    ledger = Ledger(tmp_path / "ledger")
    send(tasks.fail, link_error=tasks.record.si(str(ledger.path)).set(queue=THEIRS))
    wait_until(lambda: ledger.ids(ENDED), WAIT, "the error callback to run")


def test_a_chain_passes_each_result_on_and_keeps_its_family() -> None:
    parts = [tasks.add.s(1, 1), tasks.add.s(2), tasks.add.s(3)]
    last = chain(*(part.set(queue=THEIRS) for part in parts)).delay()
    assert last.get(timeout=WAIT) == 7
    assert last.parent.get(timeout=WAIT) == 4
    assert last.parent.parent.get(timeout=WAIT) == 2


def test_a_chain_stops_at_its_first_failure_and_its_last_result_says_so() -> None:
    parts = [tasks.fail.s("early"), tasks.add.s(1)]
    with pytest.raises(Expected, match="early"):
        chain(*(part.set(queue=THEIRS) for part in parts)).delay().get(timeout=WAIT)


def test_an_unknown_task_arrives_as_our_not_registered() -> None:
    with pytest.raises(NotRegistered, match=r"nobody\.declares\.this"):
        app.send_task("nobody.declares.this", queue=THEIRS).get(timeout=WAIT)


def test_a_content_type_that_the_other_side_refuses_is_never_run(stock_worker: Command) -> None:
    refused = send(tasks.echo, [1, 2], serializer="pickle")
    stock_worker.wait_for_line("Refusing to deserialize untrusted content of type pickle")
    assert send(tasks.add, 1, 1).get(timeout=WAIT) == 2
    with pytest.raises(exceptions.TimeoutError):
        refused.get(timeout=0.1)


def test_limits_of_one_call_are_obeyed_and_arrive_as_our_exceptions() -> None:
    soft = send(tasks.nap, 30, soft_time_limit=1)
    hard = send(tasks.nap, 30, time_limit=1)
    with pytest.raises(SoftTimeLimitExceeded):
        soft.get(timeout=WAIT)
    with pytest.raises(TimeLimitExceeded):
        hard.get(timeout=WAIT)


def test_a_lost_process_arrives_as_our_worker_lost() -> None:
    with pytest.raises(WorkerLostError):
        send(tasks.leave, 3).get(timeout=WAIT)


def test_headers_ids_and_limits_reach_the_task() -> None:
    result = send(
        tasks.describe,
        headers={"h1": "v"},
        root_id="root",
        parent_id="parent",
        time_limit=30,
        soft_time_limit=20,
    )
    described = result.get(timeout=WAIT)
    assert described["id"] == result.id
    assert described["headers"]["h1"] == "v"
    assert (described["root_id"], described["parent_id"]) == ("root", "parent")
    assert described["timelimit"] == [30, 20]


def test_protocol_1_is_understood(settings: Any, fleet: Fleet) -> None:
    settings.DJQUEUE = fleet.settings(TASK_PROTOCOL=1)
    result = send(tasks.add, 1, 2, link=tasks.add.s(4).set(queue=THEIRS))
    assert result.get(timeout=WAIT) == 3
    (child,) = result.children
    assert child.get(timeout=WAIT) == 7
