"""A real `runworker` on brokers behind kombu's transports: what runs, and what survives what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from djqueue import app, chain
from djqueue.exceptions import ImproperlyConfigured, OperationalError, TaskRevokedError
from djqueue.messaging import brokers
from djqueue.models import DeadLetter
from tests.project import tasks
from tests.support import other_brokers
from tests.support.ledger import ENDED, STARTED, Ledger
from tests.support.processes import Command, Processes
from tests.support.waiting import wait_until

WAIT = 30.0


@pytest.fixture(scope="module")
def sqs_server() -> Iterator[other_brokers.PrivateSqs]:
    server = other_brokers.sqs()
    yield server
    server.close()


@pytest.fixture
def in_etcd(settings: Any) -> Iterator[dict[str, Any]]:
    """Let this process send to an etcd; return the settings for workers."""
    server = other_brokers.etcd()
    settings.DJQUEUE = {"BROKER_URL": server.url}
    yield settings.DJQUEUE
    server.close()


@pytest.fixture
def in_files(settings: Any, tmp_path: Path) -> dict[str, Any]:
    """Let this process send into a directory; return the settings for workers."""
    for name in ("messages", "control"):
        (tmp_path / name).mkdir()
    messages = str(tmp_path / "messages")
    options = {
        "data_folder_in": messages,
        "data_folder_out": messages,
        "control_folder": str(tmp_path / "control"),
    }
    settings.DJQUEUE = {"BROKER_URL": "filesystem://", "BROKER_TRANSPORT_OPTIONS": options}
    return settings.DJQUEUE


@pytest.fixture
def in_sqs(settings: Any, sqs_server: other_brokers.PrivateSqs, request: Any) -> dict[str, Any]:
    """Let this process send to SQS; return the settings for workers."""
    options = {**sqs_server.options(), "queue_name_prefix": f"{request.node.name[:30]}-"}
    settings.DJQUEUE = {"BROKER_URL": sqs_server.url, "BROKER_TRANSPORT_OPTIONS": options}
    return settings.DJQUEUE


def start(processes: Processes, settings: dict[str, Any], *flags: str) -> Command:
    command = processes.start("runworker", "-c", "2", *flags, settings=settings)
    command.wait_for_line("djq.worker.ready", within=WAIT)
    return command


def try_all(worker: Command) -> None:
    """Send what everyday use sends, and stop the worker."""
    assert tasks.add.delay(2, 3).get(timeout=WAIT) == 5
    assert chain(tasks.add.s(1, 1), tasks.add.s(2)).delay().get(timeout=WAIT) == 4
    assert tasks.succeed_on_try.delay(3).get(timeout=WAIT) == 3
    assert tasks.add.apply_async((1, 2), countdown=1).get(timeout=WAIT) == 3
    results = [tasks.add.delay(number, 1) for number in range(20)]
    assert [result.get(timeout=WAIT) for result in results] == [number + 1 for number in range(20)]
    wait_until(lambda: brokers.broker().size("default") == 0, WAIT, "for the queue to be empty")
    assert worker.terminate(within=WAIT) == 0


def test_tasks_run_from_a_directory_and_workers_are_controlled_there(
    processes: Processes, in_files: dict[str, Any]
) -> None:
    worker = start(processes, in_files, "-n", "files@%h")
    (reply,) = app.control.ping(timeout=5)
    assert list(reply.values()) == [{"ok": "pong"}]
    assert next(iter(reply)).startswith("files@")
    try_all(worker)


def test_tasks_run_from_sqs(processes: Processes, in_sqs: dict[str, Any]) -> None:
    unwanted = tasks.add.delay(0, 0)
    app.control.revoke(unwanted.id)
    worker = start(processes, in_sqs)
    with pytest.raises(TaskRevokedError):
        unwanted.get(timeout=WAIT)
    with pytest.raises(ImproperlyConfigured, match="cannot reach all workers"):
        app.control.ping()
    try_all(worker)


def test_tasks_run_from_etcd(processes: Processes, in_etcd: dict[str, Any]) -> None:
    try_all(start(processes, in_etcd))


def test_a_stopped_worker_leaves_what_it_had_in_the_directory(
    processes: Processes, in_files: dict[str, Any], tmp_path: Path
) -> None:
    ledger = Ledger(tmp_path / "ledger")
    worker = start(processes, {**in_files, "WORKER_SHUTDOWN_GRACE": 0.5})
    sent = [tasks.record.delay(str(ledger.path), 60) for _ in range(4)]
    wait_until(lambda: ledger.path.exists() and len(ledger.ids(STARTED)) == 2, WAIT, "for two to run")
    worker.terminate(within=WAIT)
    assert brokers.broker().size("default") == 4
    assert brokers.broker().purge("default") == len(sent)


def test_a_killed_worker_loses_what_it_had_in_hand_from_a_directory_and_nothing_else(
    processes: Processes, in_files: dict[str, Any], tmp_path: Path
) -> None:
    ledger = Ledger(tmp_path / "ledger")
    worker = start(processes, in_files, "--prefetch-multiplier", "1")
    for _ in range(2):
        tasks.record.delay(str(ledger.path), 60)
    wait_until(lambda: ledger.path.exists() and len(ledger.ids(STARTED)) == 2, WAIT, "for two to run")
    later = tasks.add.delay(1, 1)
    worker.kill()
    start(processes, in_files)
    assert later.get(timeout=WAIT) == 2
    assert brokers.broker().size("default") == 0
    assert len(ledger.ids(STARTED)) == 2


def test_a_killed_worker_loses_nothing_from_sqs(
    processes: Processes, in_sqs: dict[str, Any], tmp_path: Path
) -> None:
    ledger = Ledger(tmp_path / "ledger")
    worker = start(processes, in_sqs)
    slow = [tasks.record.delay(str(ledger.path), 3) for _ in range(2)]
    wait_until(lambda: ledger.path.exists() and len(ledger.ids(STARTED)) == 2, WAIT, "for two to run")
    worker.kill()
    start(processes, in_sqs)
    for result in slow:
        assert result.get(timeout=WAIT) == "recorded"
    assert sorted(ledger.ids(ENDED)) == sorted(result.id for result in slow)


def test_a_task_that_kills_its_process_is_buried_in_the_end(
    processes: Processes, in_files: dict[str, Any], tmp_path: Path
) -> None:
    start(processes, {**in_files, "TASK_MAX_DELIVERIES": 2})
    result = tasks.die.delay(str(tmp_path / "deaths"), 10)
    wait_until(lambda: result.state == "FAILURE", WAIT, "for it to be given up")
    (letter,) = DeadLetter.objects.all()
    assert (letter.task, letter.reason) == (tasks.die.name, "max_deliveries")


def test_a_server_that_is_away_is_an_error_to_senders_and_a_pause_to_workers(
    processes: Processes, settings: Any
) -> None:
    server = other_brokers.sqs()
    settings.DJQUEUE = {"BROKER_URL": server.url, "BROKER_TRANSPORT_OPTIONS": server.options()}
    try:
        worker = start(processes, settings.DJQUEUE)
        assert tasks.add.delay(1, 1).get(timeout=WAIT) == 2
        server.kill()
        with pytest.raises(OperationalError, match="cannot be reached, or refused"):
            tasks.add.apply_async((1, 2), retry=False)
        worker.wait_for_line("djq.broker.not_fetching", within=WAIT)
        server.restart()
        worker.wait_for_line("djq.broker.fetching_again", within=WAIT)
        assert tasks.add.delay(1, 2).get(timeout=WAIT) == 3
        assert worker.terminate(within=WAIT) == 0
    finally:
        server.close()
