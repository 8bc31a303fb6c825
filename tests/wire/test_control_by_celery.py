"""Stock Celery looks at a worker of djqueue and steers it; and djqueue a stock worker."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.events.state import State

from djqueue import control, inspect
from tests.project import tasks
from tests.support.fleet import OURS, THEIRS, Fleet
from tests.support.processes import ROOT, Command
from tests.support.waiting import wait_until
from tests.wire.stock import NAMES

pytestmark = [pytest.mark.wire, pytest.mark.usefixtures("djqueue")]

WAIT = 20.0
OVER_RABBIT = True
HOST = socket.gethostname()
OURS_NODE, THEIR_NODE = f"djqueue@{HOST}", f"stock@{HOST}"


@pytest.fixture(scope="module", autouse=True)
def worker(fleet: Fleet) -> Command:
    return fleet.djqueue("-E")


def celery_command(fleet: Fleet, *words: str) -> subprocess.CompletedProcess[str]:
    """Run stock Celery's own command line on the fleet's server."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "celery", "-b", fleet.broker, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("status", f"->  {OURS_NODE}: OK"),
        ("inspect ping", "pong"),
        ("inspect active", "- empty -"),
        ("inspect scheduled", "- empty -"),
        ("inspect reserved", "- empty -"),
        ("inspect revoked", f"->  {OURS_NODE}: OK"),
        ("inspect registered", f"* {NAMES}add"),
        ("inspect stats", '"max-concurrency": 2'),
        ("inspect active_queues", "'name': 'ours'"),
        ("inspect conf", '"task_default_queue": "ours"'),
        ("inspect clock", "clock"),
        ("inspect report", "djqueue"),
        ("inspect memsample", "MB"),
        ("inspect query_task some-id", "{}"),
        (f"control rate_limit {NAMES}nap 10/s", "new rate limit set successfully"),
        (f"control time_limit {NAMES}nap 50 60", "time limits set successfully"),
        ("control revoke some-id", "tasks {'some-id'} flagged as revoked"),
        ("control terminate KILL some-id", "terminate: tasks unknown"),
        ("control enable_events", "task events already enabled"),
        ("control heartbeat", f"->  {OURS_NODE}: OK"),
        ("control add_consumer extra", "add consumer extra"),
        ("inspect active_queues", "'name': 'extra'"),
        ("control cancel_consumer extra", "no longer consuming from extra"),
        ("control pool_grow 2", "pool will grow"),
        ("inspect stats", '"max-concurrency": 4'),
        ("control pool_shrink 2", "pool will shrink"),
        ("control autoscale 3 1", "Autoscale not enabled"),
        ("control pool_restart", "Pool restarts not enabled"),
        ("control revoke_by_stamped_headers st=A", "headers {'st': ['A']} flagged as revoked"),
    ],
)
def test_celerys_command_line_understands_what_our_worker_says(fleet: Fleet, words: str, shown: str) -> None:
    done = celery_command(fleet, *words.split())
    assert shown in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_a_stock_client_watches_and_ends_a_running_task(celery: Celery) -> None:
    result = celery.send_task(f"{NAMES}nap", (60,))
    ask = celery.control.inspect([OURS_NODE], timeout=5)
    (active,) = wait_until(lambda: ask.active()[OURS_NODE], WAIT, "the task to run")
    assert (active["id"], active["name"], active["args"]) == (result.id, f"{NAMES}nap", [60])
    assert ask.query_task(result.id)[OURS_NODE][result.id][0] == "active"
    result.revoke(terminate=True)
    wait_until(lambda: result.state == "REVOKED", WAIT, "the task to end as revoked")
    assert result.id in ask.revoked()[OURS_NODE]


@pytest.fixture
def watched(celery: Celery) -> Iterator[State]:
    """Let stock Celery's monitor follow the cluster while the test runs."""
    state = State()
    with celery.connection_for_read() as connection:
        receiver = celery.events.Receiver(connection, handlers={"*": state.event})
        # A beat of the worker every two seconds makes it look whether to stop.
        thread = threading.Thread(target=receiver.capture, kwargs={"limit": None, "timeout": None})
        thread.start()
        yield state
        receiver.should_stop = True
        thread.join(WAIT)


def task(state: State, task_id: str, wanted: str) -> Any:
    def ended() -> Any:
        known = state.tasks.get(task_id)
        return known if known is not None and known.state == wanted else None

    return wait_until(ended, WAIT, f"the monitor to see {wanted}")


def test_a_stock_monitor_follows_our_worker_and_its_tasks(watched: State) -> None:
    wait_until(lambda: OURS_NODE in watched.workers, WAIT, "a heartbeat")
    known = watched.workers[OURS_NODE]
    assert known.alive
    assert known.sw_ident == "djqueue"
    assert known.freq in (2.0, 5.0)  # the beat that a new monitor asks for announces the next in five
    seen = task(watched, tasks.add.delay(2, 3).id, "SUCCESS")
    assert (seen.name, seen.args, seen.result) == (f"{NAMES}add", "(2, 3)", "5")
    assert seen.received <= seen.started <= seen.succeeded
    assert seen.worker.hostname == OURS_NODE
    failed = task(watched, tasks.fail.delay("ink").id, "FAILURE")
    assert failed.exception == "Expected('ink')"
    assert "raise Expected" in failed.traceback
    retried = tasks.succeed_on_try.delay(2)
    assert task(watched, retried.id, "SUCCESS").retried
    assert task(watched, tasks.add.apply_async((1, 1), expires=-1).id, "REVOKED").expired


def test_celery_dumps_our_events(fleet: Fleet, tmp_path: Path) -> None:
    words = [sys.executable, "-W", "ignore", "-m", "celery", "-b", fleet.broker, "events", "--dump"]
    dump = fleet.processes.run(*words, PYTHONWARNINGS="ignore", DJANGO_SETTINGS_MODULE="")
    dump.wait_for_line(f"{OURS_NODE} .* heartbeat: active=0")
    result = tasks.add.delay(20, 3)
    dump.wait_for_line(f"{OURS_NODE} .* task received: {NAMES}add\\({result.id}\\) args=\\(20, 3\\)")
    dump.wait_for_line(f"{OURS_NODE} .* task succeeded: {NAMES}add\\({result.id}\\).* result=23")
    dump.terminate()


def test_our_client_and_command_steer_a_stock_worker(fleet: Fleet) -> None:
    fleet.celery("-E")
    ask = inspect(THEIR_NODE, timeout=5)
    assert ask.ping() == {"ok": "pong"}
    assert ask.stats()["pool"]["max-concurrency"] == 2
    assert f"{NAMES}add" in ask.registered()
    assert ask.ask("active_queues")[0]["name"] == THEIRS
    assert set(inspect(limit=2).ping()) == {OURS_NODE, THEIR_NODE}
    limited = control.rate_limit(f"{NAMES}add", "10/s", destination=THEIR_NODE, reply=True)
    assert limited == [{THEIR_NODE: {"ok": "new rate limit set successfully"}}]
    result = tasks.nap.apply_async((60,), queue=THEIRS)
    wait_until(lambda: ask.active(), WAIT, "the task to run there")
    assert result.revoke(terminate=True, wait=True, timeout=2)
    wait_until(lambda: result.state == "REVOKED", WAIT, "the stock worker to end the task")


def test_a_stock_client_steers_the_queues_and_the_pool_of_our_worker(celery: Celery) -> None:
    steer = {"reply": True, "destination": [OURS_NODE], "timeout": 5}
    result = celery.send_task(f"{NAMES}add", (2, 3), queue="steered")
    said = celery.control.add_consumer("steered", **steer)
    assert said == [{OURS_NODE: {"ok": "add consumer steered"}}]
    assert result.get(timeout=WAIT) == 5
    assert celery.control.pool_grow(2, **steer) == [{OURS_NODE: {"ok": "pool will grow"}}]
    naps = [celery.send_task(f"{NAMES}nap", (1,), queue="steered") for _ in range(4)]
    ask = celery.control.inspect([OURS_NODE], timeout=5)
    wait_until(lambda: len(ask.active()[OURS_NODE]) == 4, WAIT, "all of them to run at once")
    assert celery.control.pool_shrink(2, **steer) == [{OURS_NODE: {"ok": "pool will shrink"}}]
    assert [nap.get(timeout=WAIT) for nap in naps] == [1] * 4
    said = celery.control.cancel_consumer("steered", **steer)
    assert said == [{OURS_NODE: {"ok": "no longer consuming from steered"}}]
    assert [queue["name"] for queue in ask.active_queues()[OURS_NODE]] == [OURS]


def test_a_stock_client_revokes_by_stamps(celery: Celery) -> None:
    def send(stamp: str, seconds: float) -> Any:
        return celery.send_task(
            f"{NAMES}nap", (seconds,), headers={"stamped_headers": ["st"], "stamps": {"st": stamp}}
        )

    victim = send("A1", 60)
    ask = celery.control.inspect([OURS_NODE], timeout=5)
    wait_until(lambda: ask.active()[OURS_NODE], WAIT, "the task to run")
    said = celery.control.revoke_by_stamped_headers(
        {"st": ["A1"]}, terminate=True, reply=True, destination=[OURS_NODE], timeout=5
    )
    assert said == [{OURS_NODE: {"ok": "headers {'st': ['A1']} revoked"}}]
    wait_until(lambda: victim.state == "REVOKED", WAIT, "the running task to end as revoked")
    late = send("A1", 0)
    wait_until(lambda: late.state == "REVOKED", WAIT, "the next one to end as revoked")
    assert send("A2", 0).get(timeout=WAIT) == 0


def test_our_worker_learns_from_a_stock_one_what_was_revoked_before_it_came(
    fleet: Fleet, celery: Celery
) -> None:
    fleet.celery(name="elder")
    elder = f"elder@{HOST}"
    ask = celery.control.inspect([elder], timeout=5)
    celery.control.revoke("long-ago", destination=[elder])
    wait_until(lambda: "long-ago" in ask.revoked()[elder], WAIT, "the stock worker to know")
    young = fleet.djqueue("--heartbeat-interval", "0.5", queue="young", name="young")
    said = young.wait_for_line(r"djq.mingle.done nodes=(\S+) newly_revoked=[1-9]")
    assert set(said.group(1).split(",")) >= {elder, OURS_NODE}
    result = celery.send_task(f"{NAMES}add", (1, 1), task_id="long-ago", queue="young")
    wait_until(lambda: result.state == "REVOKED", WAIT, "the task to end as revoked")
    lonely = fleet.djqueue("--without-mingle", queue="lonely", name="lonely")
    lonely.terminate()
    assert "djq.mingle" not in lonely.log()
    young.terminate()


def test_celery_shuts_our_worker_down(fleet: Fleet) -> None:
    doomed = fleet.djqueue(name="doomed")
    celery_command(fleet, "control", "shutdown", "-d", f"doomed@{HOST}")
    assert doomed.wait(within=10) == 0
