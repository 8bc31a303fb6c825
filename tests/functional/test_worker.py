"""A real `runworker` on a real database: what people see when they send tasks.

Each test starts the command, sends through the public names, and waits for results, states and log lines.
"""

from __future__ import annotations

import gc
import itertools
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction

from djqueue import AsyncResult, app, chain, enqueue_many
from djqueue.exceptions import NotRegistered, NotSentYet, TimeLimitExceeded, WorkerLostError
from djqueue.messaging import brokers
from djqueue.models import DeadLetter
from tests.project import tasks
from tests.support.processes import Command, Processes
from tests.support.waiting import wait_until

WAIT = 20.0

POOLS = ["prefork", "threads", "solo"]


@pytest.fixture
def worker(processes: Processes) -> Command:
    return start(processes)


def start(processes: Processes, *flags: str, settings: dict[str, Any] | None = None) -> Command:
    command = processes.start("runworker", "-c", "2", *flags, settings=settings)
    command.wait_for_line("djq.worker.ready")
    return command


@pytest.mark.parametrize("pool", POOLS)
def test_a_task_runs_in_every_pool_and_its_result_comes_back(processes: Processes, pool: str) -> None:
    worker = start(processes, "-P", pool)
    result = tasks.add.delay(2, 3)
    assert result.get(timeout=WAIT) == 5
    assert result.state == "SUCCESS"
    assert tasks.add_later.delay(2, 4).get(timeout=WAIT) == 6
    described = tasks.describe.delay().get(timeout=WAIT)
    assert described["hostname"].startswith("celery@")
    assert (described["pid"] == worker.pid) == (pool != "prefork")
    assert described["collected"] == list(gc.get_threshold())  # as anywhere else: tasks may make much garbage
    assert worker.terminate() == 0


def test_many_tasks_sent_at_once_all_run_once(worker: Command) -> None:
    results = enqueue_many([tasks.add.s(number, 1) for number in range(500)])
    assert [result.get(timeout=WAIT) for result in results] == [number + 1 for number in range(500)]
    assert brokers.broker().size("default") == 0


def test_a_failure_comes_back_as_the_exception_with_its_traceback(worker: Command) -> None:
    result = tasks.fail.delay("out of ink")
    with pytest.raises(tasks.Expected, match="out of ink"):
        result.get(timeout=WAIT)
    assert result.state == "FAILURE"
    assert "raise Expected(message)" in (result.traceback or "")
    worker.wait_for_line(
        r"Task tests\.project\.tasks\.fail\[.*\] raised unexpected: Expected\('out of ink'\)"
    )


def test_retries_come_back_until_the_task_succeeds(worker: Command) -> None:
    result = tasks.succeed_on_try.delay(3)
    assert result.get(timeout=WAIT) == 3
    assert result.retries == 2
    worker.wait_for_line(r"succeed_on_try\[.*\] retry: Retry in 0\.0s")


def test_a_task_with_autoretry_gives_up_after_its_last_try(worker: Command, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with pytest.raises(tasks.Expected, match="never works"):
        tasks.give_up.delay(str(path)).get(timeout=WAIT)
    assert len(path.read_text().splitlines()) == 3


def test_a_countdown_is_kept_by_the_broker_until_it_is_due(worker: Command) -> None:
    result = tasks.add.apply_async((1, 1), countdown=2)
    assert tasks.add.delay(1, 2).get(timeout=WAIT) == 3
    assert result.state == "PENDING"
    assert result.get(timeout=WAIT) == 2


def test_an_expired_task_is_revoked_and_never_runs(processes: Processes) -> None:
    result = tasks.add.apply_async((1, 1), expires=-1)
    start(processes)
    wait_until(lambda: result.state == "REVOKED", WAIT, "the expired task to be revoked")


def test_chains_links_and_error_callbacks_travel_the_whole_way(worker: Command, tmp_path: Path) -> None:
    assert chain(tasks.add.s(2, 2), tasks.add.s(4)).delay().get(timeout=WAIT) == 8
    linked = tasks.add.apply_async((1, 2), link=tasks.add.s(10))
    assert linked.get(timeout=WAIT) == 3
    (child,) = linked.children
    assert child.get(timeout=WAIT) == 13
    path = tmp_path / "errors"
    tasks.fail.apply_async(link_error=tasks.record.si(str(path)))
    wait_until(lambda: path.exists() and "ended" in path.read_text(), WAIT, "the error callback to run")


def test_progress_and_started_are_seen_while_the_task_runs(worker: Command, tmp_path: Path) -> None:
    go = tmp_path / "go"
    result = tasks.report_progress.delay(str(go))
    wait_until(lambda: result.state == "PROGRESS", WAIT, "the task to report progress")
    assert result.info == {"done": 1, "total": 2}
    waiting = tasks.wait_for_file.delay(str(go))
    wait_until(lambda: waiting.state == "STARTED", WAIT, "the task to be shown as started")
    assert waiting.info["hostname"].startswith("celery@")
    go.touch()
    assert result.get(timeout=WAIT) == "done"
    assert waiting.get(timeout=WAIT) == str(go)


def test_a_short_task_never_waits_behind_a_long_one(worker: Command, tmp_path: Path) -> None:
    go = tmp_path / "go"
    enqueue_many([tasks.add.s(number, 1) for number in range(200)])[-1].get(timeout=WAIT)
    long_one = tasks.wait_for_file.delay(str(go))
    short_ones = enqueue_many([tasks.add.s(number, 1) for number in range(50)])
    for short in short_ones:
        short.get(timeout=WAIT)
    assert not long_one.ready()
    go.touch()
    long_one.get(timeout=WAIT)


def test_what_a_rolled_back_transaction_sent_never_runs(worker: Command) -> None:
    with transaction.atomic():
        dropped = tasks.make_user.delay("dropped")
        transaction.set_rollback(True)
    with transaction.atomic():
        sent = tasks.make_user.delay("sent")
        with pytest.raises(NotSentYet):
            sent.get(timeout=WAIT)
    assert sent.get(timeout=WAIT) == get_user_model().objects.get(username="sent").pk
    with pytest.raises(NotSentYet, match="rolled back"):
        dropped.get(timeout=WAIT)
    assert not get_user_model().objects.filter(username="dropped").exists()


def test_a_hard_time_limit_ends_the_task_and_the_worker_goes_on(worker: Command) -> None:
    result = tasks.nap.apply_async((60,), time_limit=1)
    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=WAIT)
    worker.wait_for_line("djq.limit.hard")
    assert tasks.add.delay(1, 1).get(timeout=WAIT) == 2


def test_an_unknown_task_is_kept_as_a_dead_letter_and_its_sender_is_told(worker: Command) -> None:
    result = app.send_task("nobody.declares.this", args=[1])
    with pytest.raises(NotRegistered):
        result.get(timeout=WAIT)
    letter = wait_until(lambda: DeadLetter.objects.first(), WAIT, "the message to be buried")
    assert letter.reason == "unknown_task"
    worker.wait_for_line(r"djq\.dead reason=unknown_task")


def test_a_child_that_leaves_is_replaced_and_early_acknowledged_work_is_told_lost(
    processes: Processes,
) -> None:
    worker = start(processes, settings={"TASK_ACKS_LATE": False})
    result = tasks.leave.delay(3)
    with pytest.raises(WorkerLostError):
        result.get(timeout=WAIT)
    worker.wait_for_line(r"djq\.child\.lost")
    assert tasks.add.delay(1, 1).get(timeout=WAIT) == 2


def test_term_lets_what_runs_end_and_gives_back_the_rest(processes: Processes, tmp_path: Path) -> None:
    worker = start(processes)
    go = tmp_path / "go"
    running = [tasks.wait_for_file.delay(str(go)) for _ in range(2)]
    for result in running:
        wait_until(lambda result=result: result.state == "STARTED", WAIT, "both children to be busy")
    waiting = [tasks.add.delay(number, 1) for number in range(5)]
    worker.signal(signal.SIGTERM)
    worker.wait_for_line("djq.worker.stopping")
    go.touch()
    assert worker.wait(within=WAIT) == 0
    assert [result.state for result in running] == ["SUCCESS", "SUCCESS"]
    assert [result.state for result in waiting] == ["PENDING"] * 5
    assert processes.survivors() == []
    start(processes)
    assert [result.get(timeout=WAIT) for result in waiting] == [1, 2, 3, 4, 5]


def test_after_the_grace_period_a_long_task_is_given_back_uncounted(
    processes: Processes, tmp_path: Path
) -> None:
    worker = start(processes, settings={"WORKER_SHUTDOWN_GRACE": 0.5})
    ledger = tmp_path / "ledger"
    result = tasks.record.delay(str(ledger), 3600.0)
    wait_until(ledger.exists, WAIT, "the task to start")
    assert worker.terminate(within=WAIT) == 0
    assert "djq.worker.grace_over" in worker.log()
    assert result.state != "FAILURE"
    assert brokers.broker().size("default") == 1
    start(processes)
    lines = wait_until(
        lambda: len(ledger.read_text().splitlines()) == 2 and ledger.read_text(), WAIT, "it to start again"
    )
    assert {line.split()[3] for line in lines.splitlines()} == {"0"}, "the stop was counted as a crash"


def test_two_workers_share_one_queue_without_running_anything_twice(
    processes: Processes, tmp_path: Path
) -> None:
    first, second = start(processes, "-n", "one@%h"), start(processes, "-n", "two@%h")
    results = enqueue_many([tasks.describe.s() for _ in range(400)])
    names = [result.get(timeout=WAIT)["hostname"] for result in results]
    assert len(names) == 400
    assert first.terminate() == second.terminate() == 0


def test_a_worker_consumes_only_its_queues(processes: Processes) -> None:
    elsewhere = tasks.add.apply_async((1, 1), queue="elsewhere")
    start(processes, "-Q", "default")
    assert tasks.add.delay(1, 2).get(timeout=WAIT) == 3
    assert elsewhere.state == "PENDING"
    start(processes, "-Q", "elsewhere", "-n", "two@%h")
    assert elsewhere.get(timeout=WAIT) == 2


def test_mistakes_in_flags_are_told_together_and_nothing_starts(processes: Processes) -> None:
    command = processes.start("runworker", "-c", "0", "--time-limit", "1", "--soft-time-limit", "2")
    assert command.wait(within=WAIT) == 1
    assert "--concurrency is 0" in command.log()
    assert "--soft-time-limit (2 s) is longer than --time-limit (1 s)" in command.log()


def test_check_tells_that_the_worker_could_start(processes: Processes) -> None:
    command = processes.start("runworker", "--check")
    assert command.wait(within=WAIT) == 0
    assert "could start" in command.log()


def test_a_second_term_ends_early_acknowledged_work_too(processes: Processes, tmp_path: Path) -> None:
    worker = start(processes)
    ledger = tmp_path / "ledger"
    result = tasks.record_early.delay(str(ledger), 3600.0)
    wait_until(ledger.exists, WAIT, "the task to start")
    worker.signal(signal.SIGTERM)
    worker.wait_for_line("djq.worker.stopping")
    worker.signal(signal.SIGTERM)
    assert worker.wait(within=WAIT) == 0
    assert result.state == "FAILURE"
    assert isinstance(result.result, WorkerLostError)


def test_the_handle_works_in_another_process_by_its_id(worker: Command) -> None:
    task_id = tasks.add.delay(20, 22).id
    assert AsyncResult(task_id).get(timeout=WAIT) == 42
    AsyncResult(task_id).forget()
    assert AsyncResult(task_id).state == "PENDING"


def test_a_rate_limit_spaces_the_starts(worker: Command) -> None:
    results = [tasks.now_and_then.delay() for _ in range(4)]
    moments = sorted(result.get(timeout=WAIT) for result in results)
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert min(gaps) > 0.15, f"5/s means one every 0.2 s; the gaps were {gaps}"


def test_the_whole_process_group_may_be_told_to_stop(processes: Processes, tmp_path: Path) -> None:
    worker = start(processes)
    go = tmp_path / "go"
    result = tasks.wait_for_file.delay(str(go))
    wait_until(lambda: result.state == "STARTED", WAIT, "the task to start")
    os.killpg(worker.pid, signal.SIGTERM)
    worker.wait_for_line("djq.worker.stopping")
    go.touch()
    assert worker.wait(within=WAIT) == 0
    assert result.get(timeout=WAIT) == str(go)
