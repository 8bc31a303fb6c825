"""Remote control and events over the database broker: real workers, our own client and commands."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from djqueue import AsyncResult, app, control, enqueue_many, inspect
from djqueue.exceptions import TaskRevokedError
from djqueue.messaging import brokers
from djqueue.messaging.events import Event, Receiver
from djqueue.models import Revocation
from tests.project import tasks
from tests.support.processes import Command, Processes
from tests.support.waiting import wait_until

WAIT = 20.0
ADD = "tests.project.tasks.add"


def start(processes: Processes, name: str = "one", *flags: str, **settings: Any) -> Command:
    worker = processes.start("runworker", "-c", "2", "-n", f"{name}@test", *flags, settings=settings)
    worker.wait_for_line("djq.worker.ready")
    return worker


def ask(command: str, node: str = "one@test", **arguments: Any) -> Any:
    """Return what one node replies."""
    return inspect(node, timeout=5).ask(command, **arguments)


# Asking


def test_workers_answer_and_those_named_only(processes: Processes) -> None:
    start(processes)
    start(processes, "two")
    assert inspect().ping() == {"one@test": {"ok": "pong"}, "two@test": {"ok": "pong"}}
    assert control.ping(["two@test"], timeout=5) == [{"two@test": {"ok": "pong"}}]
    assert inspect(pattern="t*@test", matcher="glob", limit=1).ping() == {"two@test": {"ok": "pong"}}
    assert inspect(pattern="o.e@", matcher="pcre", limit=1).ping() == {"one@test": {"ok": "pong"}}
    assert inspect("nobody@test", timeout=0.2).ping() is None


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_workers_can_be_asked_while_a_transaction_is_open(database: str, processes: Processes) -> None:
    start(processes)
    heard: list[tuple[int, Any]] = []
    with transaction.atomic():
        Revocation.objects.create(task_id="a", revoked_at=1.0)
        replies = control.ping(
            timeout=10, limit=1, callback=lambda reply: heard.append((threading.get_ident(), reply))
        )
        with pytest.raises(KeyError, match="by the caller"):
            control.ping(timeout=10, limit=1, callback=lambda reply: reply["by the caller"])
        transaction.set_rollback(True)
    assert replies == [{"one@test": {"ok": "pong"}}]
    assert heard == [(threading.get_ident(), replies[0])]
    assert not Revocation.objects.exists()


def test_what_runs_what_waits_and_what_is_known_is_shown(processes: Processes, tmp_path: Path) -> None:
    worker = start(processes)
    go = tmp_path / "go"
    running = [tasks.wait_for_file.delay(str(go)) for _ in range(2)]
    later = tasks.add.apply_async((1, 2), countdown=3600)
    active = wait_until(lambda: len(found := ask("active")) == 2 and found, WAIT, "both tasks to run")
    assert {one["id"] for one in active} == {result.id for result in running}
    (first, *_) = active
    assert first["name"] == first["type"] == "tests.project.tasks.wait_for_file"
    assert (first["args"], first["kwargs"], first["acknowledged"]) == ([str(go)], {}, False)
    assert first["worker_pid"] in worker.descendants()
    assert first["delivery_info"]["routing_key"] == "default"
    assert set(first["delivery_info"]) == {"exchange", "routing_key", "priority", "redelivered"}
    assert ask("active", safe=True)[0]["args"] == f"('{go}',)"
    (waiting,) = ask("scheduled")
    assert (waiting["request"]["id"], waiting["priority"]) == (later.id, 6)
    assert ask("query_task", ids=[running[0].id])[running[0].id][0] == "active"
    assert ask("reserved") == []
    assert ADD in ask("registered")
    assert "tests.project.tasks.now_and_then [rate_limit=5/s]" in ask("registered")
    assert not [name for name in ask("registered") if name.startswith(("celery.", "djqueue."))]
    (queue,) = ask("active_queues")
    assert (queue["name"], queue["exchange"]["type"]) == ("default", "direct")
    go.touch()
    running[0].get(timeout=WAIT)
    stats = ask("stats")
    assert stats["pool"]["max-concurrency"] == 2
    assert set(stats["pool"]["processes"]) <= set(worker.descendants())
    assert stats["total"] == {"tests.project.tasks.wait_for_file": 2}
    assert stats["pid"] == worker.pid
    assert stats["broker"]["transport"] == "django"


def test_settings_are_shown_and_secrets_are_not(processes: Processes) -> None:
    start(processes, RESULT_BACKEND_TRANSPORT_OPTIONS={"password": "hunter2"}, TASK_TRACK_STARTED=False)
    conf = ask("conf")
    assert conf["task_track_started"] is False
    assert "hunter2" not in json.dumps(conf)
    assert "worker_pool" not in conf
    assert ask("conf", with_defaults=True)["worker_pool"] == "prefork"


def test_a_wrong_command_is_answered_and_harms_nothing(processes: Processes) -> None:
    start(processes)
    assert ask("nonexistent") == {"error": "KeyError('nonexistent')"}
    assert "TypeError" in ask("rate_limit")["error"]
    assert ask("ping") == {"ok": "pong"}


# Tasks


def test_a_task_revoked_while_no_worker_is_up_never_runs(processes: Processes, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    queued = tasks.record.delay(str(path))
    delayed = tasks.record.apply_async((str(path),), countdown=3600)
    queued.revoke()
    delayed.revoke()
    start(processes)
    for result in (queued, delayed):
        wait_until(lambda result=result: result.state == "REVOKED", WAIT, "the task to end as revoked")
        with pytest.raises(TaskRevokedError, match="revoked"):
            result.get(timeout=1)
    assert not path.exists()
    assert brokers.broker().size("default") == 0


def test_a_revocation_outlives_the_workers_that_heard_of_it(processes: Processes, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    worker = start(processes)
    control.revoke("not-sent-yet")
    worker.wait_for_line("djq.control.revoked")
    worker.terminate()
    tasks.record.apply_async((str(path),), task_id="not-sent-yet")
    start(processes)
    result = app.AsyncResult("not-sent-yet")
    wait_until(lambda: result.state == "REVOKED", WAIT, "the task to end as revoked")
    assert not path.exists()


def test_a_revocation_that_no_worker_heard_is_found_in_the_record(processes: Processes) -> None:
    start(processes)
    brokers.broker().remember_revoked(["unheard"])
    wait_until(lambda: "unheard" in ask("revoked"), WAIT, "the worker to look into the record")


def test_a_revocation_leaves_with_the_transaction_it_is_made_in(processes: Processes) -> None:
    start(processes)
    with transaction.atomic():
        control.revoke("rolled back")
        transaction.set_rollback(True)
    with transaction.atomic():
        control.revoke("committed")
    wait_until(lambda: "committed" in ask("revoked"), WAIT, "the worker to hear of it")
    assert list(Revocation.objects.values_list("task_id", flat=True)) == ["committed"]
    assert "rolled back" not in ask("revoked")


def test_a_task_that_was_received_and_has_not_started_is_revoked_at_once(
    processes: Processes, tmp_path: Path
) -> None:
    start(processes, "one", "--pool", "prefork", "--prefetch-multiplier", "0")
    rate = control.rate_limit("tests.project.tasks.record", "1/h", reply=True, destination="one@test")
    assert rate == [{"one@test": {"ok": "new rate limit set successfully"}}]
    ledger = tmp_path / "ledger"
    results = [tasks.record.delay(str(ledger)) for _ in range(3)]
    wait_until(lambda: len(ask("scheduled")) == 2, WAIT, "two tasks to wait for their rate limit")
    results[2].revoke(wait=True)
    wait_until(lambda: results[2].state == "REVOKED", 5, "the waiting task to be revoked")
    assert len(ask("scheduled")) == 1
    assert control.rate_limit("tests.project.tasks.record", 0, reply=True, destination="one@test") == [
        {"one@test": {"ok": "rate limit disabled successfully"}}
    ]
    assert results[1].get(timeout=WAIT) == "recorded"


def test_tasks_in_the_hands_of_busy_children_are_revoked_at_once(
    processes: Processes, tmp_path: Path
) -> None:
    start(processes)
    there, later = tmp_path / "there", tmp_path / "later"
    there.touch()
    for quick in enqueue_many([tasks.wait_for_file.s(str(there)) for _ in range(300)]):
        quick.get(timeout=WAIT)
    results = enqueue_many([tasks.wait_for_file.s(str(later)) for _ in range(20)])
    reserved = wait_until(lambda: ask("reserved"), WAIT, "children to hold more than they run")
    running = {one["id"] for one in ask("active")}
    victims = [result for result in results if result.id not in running]
    control.revoke([victim.id for victim in victims])
    for victim in victims:
        wait_until(lambda victim=victim: victim.state == "REVOKED", 5, "the task to end as revoked")
    assert {one["id"] for one in reserved} <= {victim.id for victim in victims} | running
    later.touch()
    assert [result.get(timeout=WAIT) for result in results if result.id in running] == [str(later)] * 2


def test_killing_and_ending_at_the_same_moment_leave_one_end(processes: Processes) -> None:
    worker = start(processes)
    results = []
    for number in range(60):
        result = tasks.nap.delay(0.01 + number % 10 / 500)
        results.append(result)
        control.revoke(result.id, destination="one@test", terminate=True)
    for result in results:
        wait_until(result.ready, WAIT, "the task to end one way or the other")
    ends = {result.id: result.state for result in results}
    assert set(ends.values()) <= {"SUCCESS", "REVOKED"}
    for task_id in ends:
        said = len(re.findall(rf"{task_id}\] (?:succeeded|revoked)", worker.log()))
        assert said == 1, f"{task_id} ended {said} times"
    assert {result.id: AsyncResult(result.id).state for result in results} == ends
    assert tasks.add.delay(1, 1).get(timeout=WAIT) == 2


@pytest.mark.parametrize("acks_late", [True, False])
def test_a_running_task_is_killed_when_asked_and_others_go_on(
    processes: Processes, tmp_path: Path, acks_late: bool
) -> None:
    worker = start(processes)
    path = tmp_path / "ledger"
    task = tasks.record if acks_late else tasks.record_early
    victim, other = task.delay(str(path), 60), tasks.nap.delay(2)
    wait_until(path.exists, WAIT, "the task to run")
    (answer,) = victim.revoke(terminate=True, wait=True, timeout=2) or [None]
    assert answer == {"one@test": {"ok": f"terminate: {victim.id}"}}
    wait_until(lambda: victim.state == "REVOKED", 5, "the killed task to end as revoked")
    with pytest.raises(TaskRevokedError, match="terminated"):
        victim.get(timeout=1)
    worker.wait_for_line(f"{victim.id}\\] revoked: terminated")
    assert other.get(timeout=WAIT) == 2
    assert tasks.add.delay(1, 1).get(timeout=WAIT) == 2
    assert brokers.broker().size("default") == 0
    assert "djq.child.lost" not in worker.log()


def test_revoking_what_nobody_knows_and_killing_by_a_harmless_signal(processes: Processes) -> None:
    start(processes)
    assert ask("revoke", task_id="x") == {"ok": "tasks {'x'} flagged as revoked"}
    assert ask("revoke", task_id=["x"], terminate=True) == {"ok": "terminate: tasks unknown"}
    assert "ValueError" in ask("revoke", task_id="x", terminate=True, signal="SIGUSR1")["error"]
    assert ask("revoked") == ["x"]


def test_limits_are_changed_while_the_worker_runs(processes: Processes) -> None:
    start(processes)
    nap = "tests.project.tasks.nap"
    assert ask("rate_limit", task_name="unknown", rate_limit="1/m") == {"error": "unknown task"}
    refused = ask("rate_limit", task_name=nap, rate_limit="1/q")["error"]
    assert refused.startswith("Invalid rate limit string: ValueError(")
    assert ask("time_limit", task_name="unknown", hard=1) == {"error": "unknown task"}
    assert ask("time_limit", task_name=nap, hard=0.5) == {"ok": "time limits set successfully"}
    result = tasks.nap.delay(30)
    wait_until(result.failed, WAIT, "the new time limit to end the task")


# The worker


def test_shutdown_stops_the_worker_and_nobody_replies(processes: Processes) -> None:
    worker = start(processes)
    assert control.shutdown(destination="one@test", reply=True, timeout=1) == []
    assert worker.wait(within=10) == 0


def test_a_worker_without_remote_control_stays_silent_and_keeps_to_revocations(
    processes: Processes, tmp_path: Path
) -> None:
    worker = processes.start("runworker", "-c", "1", settings={"WORKER_ENABLE_REMOTE_CONTROL": False})
    worker.wait_for_line("djq.worker.ready")
    assert inspect(timeout=0.5).ping() is None
    path = tmp_path / "ledger"
    delayed = tasks.record.apply_async((str(path),), countdown=3600)
    delayed.revoke()
    wait_until(lambda: delayed.state == "REVOKED", WAIT, "the worker to look into the record")


# Events


@contextmanager
def captured(key: str = "#") -> Iterator[list[Event]]:
    """Collect events in a thread while the block runs."""
    found: list[Event] = []
    ready, over = threading.Event(), threading.Event()

    def capture() -> None:
        try:
            while not over.is_set():
                found.extend(Receiver(routing_key=key).events(timeout=3, on_ready=ready.set))
        finally:
            connection.close()

    thread = threading.Thread(target=capture)
    thread.start()
    try:
        assert ready.wait(WAIT)
        yield found
    finally:
        over.set()
        thread.join(WAIT)


def of(found: list[Event], kind: str) -> Callable[[], list[Event]]:
    return lambda: [event for event in found if event["type"] == kind]


def test_monitors_see_the_life_of_worker_and_tasks(processes: Processes) -> None:
    with captured() as found:
        worker = start(processes, "one", "-E")
        result = tasks.add.delay(1, 2)
        result.get(timeout=WAIT)
        failed = tasks.fail.delay("ink")
        revoked = tasks.add.apply_async((1, 2), expires=-1)
        wait_until(of(found, "task-revoked"), WAIT, "the event of the expired task")
        wait_until(of(found, "task-failed"), WAIT, "the event of the failed task")
        wait_until(of(found, "worker-heartbeat"), WAIT, "a heartbeat")
        assert worker.terminate() == 0
        wait_until(of(found, "worker-offline"), WAIT, "the worker to say goodbye")
    mine = [event for event in found if event.get("uuid") == result.id]
    assert [event["type"] for event in mine] == ["task-received", "task-started", "task-succeeded"]
    received, started, succeeded = mine
    assert (received["name"], received["args"], received["kwargs"]) == (ADD, "(1, 2)", "{}")
    assert received["root_id"] == result.id
    assert received["retries"] == 0
    assert succeeded["result"] == "3"
    assert succeeded["runtime"] > 0
    assert started["timestamp"] <= succeeded["timestamp"]
    clocks = [event["clock"] for event in found]
    assert clocks == sorted(clocks)
    assert len(set(clocks)) == len(clocks)
    assert {event["hostname"] for event in found} == {"one@test"}
    (online,) = of(found, "worker-online")()
    assert online["freq"] == 2.0
    assert len(online["loadavg"]) == 3
    assert online["pid"] == worker.pid
    (failure,) = of(found, "task-failed")()
    assert failure["uuid"] == failed.id
    assert failure["exception"] == "Expected('ink')"
    assert "raise Expected(message)" in failure["traceback"]
    (expired,) = of(found, "task-revoked")()
    assert (expired["uuid"], expired["expired"], expired["terminated"]) == (revoked.id, True, False)


def test_events_about_tasks_are_switched_on_and_off(processes: Processes) -> None:
    start(processes)
    assert ask("disable_events") == {"ok": "task events already disabled"}
    assert ask("enable_events") == {"ok": "task events enabled"}
    assert ask("enable_events") == {"ok": "task events already enabled"}
    with captured("task.#") as found:
        tasks.add.delay(1, 2).get(timeout=WAIT)
        wait_until(of(found, "task-succeeded"), WAIT, "the event of the task")
        assert ask("disable_events") == {"ok": "task events disabled"}
        tasks.add.delay(1, 2).get(timeout=WAIT)
        with captured("worker.#") as beats:
            wait_until(of(beats, "worker-heartbeat"), WAIT, "a heartbeat after it")
        assert len(of(found, "task-succeeded")()) == 1
        assert not of(found, "worker-heartbeat")()


def test_whoever_sends_tells_monitors_if_that_is_wanted(processes: Processes) -> None:
    with captured("task.sent") as found:
        words = "from tests.project.tasks import add; print('id', add.delay(20, 3).id)"
        sender = processes.start("shell", "-c", words, settings={"TASK_SEND_SENT_EVENT": True})
        task_id = sender.wait_for_line(r"^id (\S+)$").group(1)
        assert sender.wait(within=10) == 0
        (sent,) = wait_until(of(found, "task-sent"), WAIT, "the event")
    assert (sent["uuid"], sent["root_id"], sent["name"], sent["args"]) == (task_id, task_id, ADD, "(20, 3)")
    assert (sent["queue"], sent["routing_key"], sent["exchange"]) == ("default", "default", "")
    assert sent["hostname"].startswith(f"gen{sender.pid}@")


# The command line


def run(*words: str) -> str:
    out = StringIO()
    call_command("djqueue", *words, stdout=out)
    return out.getvalue()


def test_the_command_line_shows_what_workers_answer(processes: Processes) -> None:
    start(processes)
    assert run("status") == "->  one@test: OK\n\n1 node online.\n"
    assert json.loads(run("status", "--json")) == {"one@test": {"ok": "pong"}}
    assert "    - empty -" in run("inspect", "active", "-d", "one@test")
    assert f"    * {ADD}\n" in run("inspect", "registered")
    said = run("control", "rate_limit", ADD, "10/m")
    assert said == "->  one@test: OK\n        new rate limit set successfully\n"
    assert "tasks {" in run("control", "revoke", "a", "b")
    assert json.loads(run("inspect", "query_task", "a", "--format", "json")) == {"one@test": {}}
    assert "rate_limit <task_name>" in run("control", "--list")
    assert run("control", "shutdown") == "Sent. There are no replies to shutdown.\n"


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("status", "-t", "0.1"), 69, "No nodes replied"),
        (("inspect", "activ"), 2, "Did you mean 'active'"),
        (("control", "ping"), 2, "There are: "),
        (("inspect", "ping", "now"), 2, "Too many arguments"),
        (("control", "time_limit", ADD, "soon"), 2, "soft is 'soon'"),
    ],
)
@pytest.mark.django_db(transaction=True)
def test_the_command_line_says_what_is_wrong(words: tuple[str, ...], status: int, says: str) -> None:
    with pytest.raises(CommandError, match=says) as raised:
        run(*words)
    assert raised.value.returncode == status
