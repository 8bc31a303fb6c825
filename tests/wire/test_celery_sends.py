"""A stock Celery client sends to `runworker`, and reads the results."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import celery.exceptions as celery_exceptions
import pytest
import redis
from billiard import exceptions as billiard_exceptions
from celery import Celery, chain
from celery.result import AsyncResult
from kombu import exceptions as kombu_exceptions

from tests.project import tasks
from tests.support.fleet import Fleet
from tests.support.ledger import ENDED, Ledger
from tests.support.processes import Command
from tests.support.waiting import wait_until
from tests.wire.stock import NAMES

pytestmark = pytest.mark.wire

WAIT = 20.0
OVER_RABBIT = True


@pytest.fixture(scope="module", autouse=True)
def worker(fleet: Fleet) -> Command:
    return fleet.djqueue(TASK_MAX_DELIVERIES=2)


def send(celery: Celery, name: str, *args: Any, **options: Any) -> AsyncResult:
    return celery.send_task(NAMES + name, args, **options)


def test_arguments_and_results_travel_unchanged(celery: Celery) -> None:
    kinds = [1, -2.5, "text", "ünïcödé \U0001f40d", None, True, [1, [2]], {"a": {"b": []}}]
    result = send(celery, "echo", *kinds, kwargs={"key": "värde", "deep": {"x": [1]}})
    assert result.get(timeout=WAIT) == [kinds, {"key": "värde", "deep": {"x": [1]}}]
    assert result.state == "SUCCESS"
    assert result.name == f"{NAMES}echo"
    assert result.worker.startswith("djqueue@")
    assert result.queue == "ours"


def test_types_that_celery_writes_into_json_arrive_as_celery_would_read_them(celery: Celery) -> None:
    moment = datetime(2030, 1, 31, 12, 30, tzinfo=UTC)
    assert send(celery, "echo", moment, b"bytes").get(timeout=WAIT) == [[moment, b"bytes"], {}]


def test_a_countdown_is_kept_and_runs_when_it_is_due(
    celery: Celery, fleet: Fleet, server: redis.Redis
) -> None:
    began = time.time()
    later = send(celery, "add", 1, 2, countdown=2)
    eta = send(celery, "add", 2, 2, eta=datetime.now(UTC) + timedelta(seconds=2))
    if not fleet.is_rabbit:  # which does not tell what it keeps for whom
        wait_until(lambda: server.zcard("djq:delayed:ours") == 2, WAIT, "both to be put off")
    assert later.state == "PENDING"
    assert (later.get(timeout=WAIT), eta.get(timeout=WAIT)) == (3, 4)
    assert time.time() - began >= 2


def test_what_has_expired_is_revoked(celery: Celery) -> None:
    late = send(celery, "add", 1, 1, expires=datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(celery_exceptions.TaskRevokedError, match="expired"):
        late.get(timeout=WAIT)
    assert send(celery, "add", 1, 1, expires=60).get(timeout=WAIT) == 2


def test_priorities_are_read_as_kombu_writes_them(celery: Celery, fleet: Fleet) -> None:
    queue = "by priority"
    sent = {priority: send(celery, "describe", queue=queue, priority=priority) for priority in (9, 4, 6, 0)}
    fleet.djqueue("-P", "solo", "-c", "1", "--prefetch-multiplier", "1", queue=queue, name="priorities")
    ends = {priority: result.get(timeout=WAIT) and result.date_done for priority, result in sent.items()}
    assert sorted(ends, key=ends.__getitem__) == fleet.first_to_last


def test_retries_end_in_success_or_in_the_last_error(celery: Celery) -> None:
    fine = send(celery, "succeed_on_try", 3)
    assert fine.get(timeout=WAIT) == 3
    assert fine.retries == 2
    hopeless = send(celery, "succeed_on_try", 100)
    with pytest.raises(tasks.Expected, match="try 6"):
        hopeless.get(timeout=WAIT)


def test_a_waiting_retry_shows_its_reason(celery: Celery) -> None:
    result = send(celery, "succeed_on_try", 2, 600.0)
    wait_until(lambda: result.state == "RETRY", WAIT, "the task to ask for a retry")
    assert isinstance(result.result, tasks.Expected)
    assert "try 1" in result.traceback


def test_a_failure_arrives_as_its_exception_with_its_traceback(celery: Celery) -> None:
    result = send(celery, "fail", "out of ink")
    with pytest.raises(tasks.Expected, match="out of ink"):
        result.get(timeout=WAIT)
    assert result.state == "FAILURE"
    assert "raise Expected(message)" in result.traceback


def test_a_wrong_call_fails_as_a_type_error(celery: Celery) -> None:
    with pytest.raises(TypeError, match="unexpected"):
        send(celery, "add", kwargs={"unexpected": 1}).get(timeout=WAIT)


def test_started_is_shown_with_pid_and_hostname(celery: Celery, tmp_path: Path) -> None:
    go = tmp_path / "go"
    result = send(celery, "wait_for_file", str(go))
    wait_until(lambda: result.state == "STARTED", WAIT, "the task to start")
    assert set(result.info) == {"pid", "hostname"}
    go.touch()
    assert result.get(timeout=WAIT) == str(go)


def test_progress_reaches_a_client_while_the_task_runs(celery: Celery, tmp_path: Path) -> None:
    go = tmp_path / "go"
    result = send(celery, "report_progress", str(go))
    wait_until(lambda: result.state == "PROGRESS", WAIT, "progress")
    assert result.info == {"done": 1, "total": 2}
    go.touch()
    assert result.get(timeout=WAIT) == "done"


def test_an_ignored_result_is_not_stored(celery: Celery, server: redis.Redis, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    ignored = send(celery, "record", str(ledger.path), ignore_result=True)
    wait_until(lambda: ledger.ids(ENDED) == [ignored.id], WAIT, "the task to end")
    assert send(celery, "add", 1, 1).get(timeout=WAIT) == 2
    assert server.exists(f"celery-task-meta-{ignored.id}") == 0


@pytest.mark.parametrize("method", ["zlib", "gzip", "bzip2", "lzma"])
def test_compressed_bodies_are_read(celery: Celery, method: str) -> None:
    text = "inflate me " * 500
    assert send(celery, "echo", text, compression=method).get(timeout=WAIT) == [[text], {}]


def test_callbacks_run_on_success_and_error_callbacks_on_failure(celery: Celery, tmp_path: Path) -> None:
    follow = celery.signature(f"{NAMES}add", (10,))
    linked = send(celery, "add", 1, 2, link=follow)
    assert linked.get(timeout=WAIT) == 3
    (child,) = linked.children
    assert child.get(timeout=WAIT) == 13
    ledger = Ledger(tmp_path / "ledger")
    tell = celery.signature(f"{NAMES}record", (str(ledger.path),), immutable=True)
    send(celery, "fail", link_error=tell)
    wait_until(lambda: ledger.ids(ENDED), WAIT, "the error callback to run")


def test_a_chain_passes_each_result_on_and_keeps_its_family(celery: Celery) -> None:
    add = celery.signature(f"{NAMES}add")
    last = chain(add.clone((1, 1)), add.clone((2,)), add.clone((3,)), app=celery).apply_async()
    assert last.get(timeout=WAIT) == 7
    assert last.parent.get(timeout=WAIT) == 4
    assert last.parent.parent.get(timeout=WAIT) == 2


def test_a_chain_stops_at_its_first_failure_and_its_last_result_says_so(celery: Celery) -> None:
    fail, add = celery.signature(f"{NAMES}fail", ("early",)), celery.signature(f"{NAMES}add", (1,))
    last = chain(fail, add, app=celery).apply_async()
    with pytest.raises(tasks.Expected, match="early"):
        last.get(timeout=WAIT)


def test_an_unknown_task_is_refused_and_its_sender_is_told(celery: Celery) -> None:
    with pytest.raises(celery_exceptions.NotRegistered):
        celery.send_task("nobody.declares.this").get(timeout=WAIT)


def test_a_content_type_that_is_not_accepted_is_refused(
    celery: Celery, fleet: Fleet, server: redis.Redis, worker: Command
) -> None:
    refused = send(celery, "echo", {1, 2}, serializer="pickle")
    with pytest.raises(kombu_exceptions.ContentDisallowed, match="application/x-python-serialize"):
        refused.get(timeout=WAIT)
    assert refused.state == "FAILURE"
    if fleet.is_rabbit:
        worker.wait_for_line(rf"djq\.dead .*id={refused.id}")
    else:
        wait_until(lambda: letter_of(server, refused.id), WAIT, "the dead letter")
    assert send(celery, "add", 1, 1).get(timeout=WAIT) == 2


def letter_of(server: redis.Redis, task_id: str) -> dict[str, Any] | None:
    """Return the dead letter of that task."""
    letters = [json.loads(letter) for letter in server.hvals("djq:dead")]
    return next((letter for letter in letters if task_id in letter["message"]), None)


def test_limits_of_one_call_are_obeyed_and_arrive_as_celerys_exceptions(celery: Celery) -> None:
    soft = send(celery, "nap", 30, soft_time_limit=1)
    hard = send(celery, "nap", 30, time_limit=1)
    with pytest.raises(billiard_exceptions.SoftTimeLimitExceeded):
        soft.get(timeout=WAIT)
    with pytest.raises(billiard_exceptions.TimeLimitExceeded):
        hard.get(timeout=WAIT)


def test_a_task_that_always_kills_its_process_ends_as_worker_lost(celery: Celery) -> None:
    with pytest.raises(billiard_exceptions.WorkerLostError):
        send(celery, "leave", 3).get(timeout=WAIT)


def test_headers_stamps_and_ids_reach_the_task(celery: Celery) -> None:
    result = celery.send_task(
        f"{NAMES}describe", headers={"h1": "v"}, root_id="root", parent_id="parent", shadow="shown"
    )
    described = result.get(timeout=WAIT)
    assert described["id"] == result.id
    assert described["headers"]["h1"] == "v"
    assert (described["root_id"], described["parent_id"]) == ("root", "parent")


def test_protocol_1_is_understood(celery: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(celery.amqp.__dict__, "create_task_message", celery.amqp.task_protocols[1])
    result = send(celery, "add", 1, 2, link=celery.signature(f"{NAMES}add", (4,)))
    assert result.get(timeout=WAIT) == 3
    (child,) = result.children
    assert child.get(timeout=WAIT) == 7
