"""Flower, as it comes from PyPI, watches and steers a worker of djqueue over Redis and RabbitMQ.

It talks to the broker through stock Celery. Everything is asked of its HTTP interface, as its pages do.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from celery import Celery

from djqueue import AsyncResult
from tests.project import tasks
from tests.support.fleet import OURS, Fleet
from tests.support.processes import Command
from tests.support.servers import free_port
from tests.support.waiting import wait_until
from tests.wire.stock import NAMES

pytestmark = [pytest.mark.wire, pytest.mark.usefixtures("djqueue")]

WAIT = 20.0
OVER_RABBIT = True
NODE = f"djqueue@{socket.gethostname()}"


class Flower:
    """Flower's HTTP interface."""

    def __init__(self, address: str) -> None:
        self._address = address

    def get(self, path: str, **query: Any) -> Any:
        """Return what a GET answers: JSON, or text."""
        return self._answer(Request(f"{self._address}{path}?{urlencode(query)}"))

    def post(self, path: str, content: Any = None, **query: Any) -> Any:
        """Return what a POST answers: JSON, or text where it refuses."""
        data = b"" if content is None else json.dumps(content).encode()
        return self._answer(Request(f"{self._address}{path}?{urlencode(query)}", method="POST", data=data))

    def workers(self) -> dict[str, bool]:
        """Return who is known, and whether he is online."""
        found: dict[str, bool] = self.get("/api/workers", status=1)
        return found

    def worker(self) -> dict[str, Any]:
        """Return what our worker says of itself now."""
        found: dict[str, Any] = self.get("/api/workers", workername=NODE, refresh=1)[NODE]
        return found

    def task(self, task_id: str, state: str) -> dict[str, Any]:
        """Return what is known of the task once it has that state."""

        def known() -> Any:
            found = self.get(f"/api/task/info/{task_id}")
            return found if isinstance(found, dict) and found["state"] == state else None

        found: dict[str, Any] = wait_until(known, WAIT, f"Flower to show the task as {state}")
        return found

    def _answer(self, request: Request) -> Any:
        try:
            with urlopen(request, timeout=WAIT) as response:
                content = response.read()
        except HTTPError as error:
            with error:
                content = error.read()
        try:
            return json.loads(content)
        except ValueError:
            return content.decode()


@pytest.fixture(scope="module")
def worker(fleet: Fleet) -> Command:
    return fleet.djqueue()


@pytest.fixture(scope="module")
def flower(fleet: Fleet, worker: Command, celery: Celery) -> Iterator[Flower]:
    """Return a Flower that has seen our worker, and has switched its events on."""
    port = free_port()
    process = fleet.processes.run(
        *(sys.executable, "-W", "ignore", "-m", "celery", "-A", "tests.wire.stock", "-b", fleet.broker),
        *("flower", "--address=127.0.0.1", f"--port={port}"),
        STOCK_URL=fleet.broker,
        STOCK_SETTINGS=json.dumps(fleet.stock_settings),
        FLOWER_UNAUTHENTICATED_API="1",
        PYTHONWARNINGS="ignore",
        DJANGO_SETTINGS_MODULE="",
    )
    flower = Flower(f"http://127.0.0.1:{port}")

    def is_online() -> bool:
        assert process.exit_status is None, process.log()
        try:
            return flower.workers().get(NODE, False)
        except URLError:
            return False

    wait_until(is_online, WAIT, "Flower to see our worker")

    def has_seen_a_task() -> bool:
        celery.send_task(f"{NAMES}add", (1, 1))
        return bool(flower.get("/api/tasks", limit=1))

    wait_until(has_seen_a_task, WAIT, "Flower to have switched events on")
    yield flower
    process.terminate()


def test_it_shows_our_worker_as_it_shows_celerys(fleet: Fleet, flower: Flower, worker: Command) -> None:
    shown = flower.worker()
    assert set(shown) >= {"stats", "active_queues", "registered", "conf", "active", "reserved", "scheduled"}
    assert shown["stats"]["pid"] == worker.pid
    assert shown["stats"]["pool"]["max-concurrency"] == 2
    assert shown["stats"]["broker"]["transport"] == ("amqp" if fleet.is_rabbit else "redis")
    assert [queue["name"] for queue in shown["active_queues"]] == [OURS]
    assert f"{NAMES}add" in shown["registered"]
    assert shown["conf"]["task_default_queue"] == OURS
    if not fleet.is_rabbit:  # there it asks the management plugin's HTTP interface
        assert flower.get("/api/queues/length") == {"active_queues": [{"name": OURS, "messages": 0}]}


@pytest.mark.parametrize("page", ["/workers", f"/worker/{NODE}", "/tasks", "/broker", "/metrics"])
def test_its_pages_open(flower: Flower, page: str) -> None:
    shown = flower.get(page)
    assert isinstance(shown, str)
    assert "Traceback" not in shown
    assert NODE in shown or page in ("/tasks", "/broker")


def test_it_follows_tasks_to_their_end(flower: Flower) -> None:
    seen = flower.task(tasks.add.delay(2, 3).id, "SUCCESS")
    assert (seen["name"], seen["args"], seen["kwargs"]) == (f"{NAMES}add", "(2, 3)", "{}")
    assert (seen["result"], seen["worker"], seen["retries"]) == ("5", NODE, 0)
    assert seen["received"] <= seen["started"] <= seen["succeeded"]
    assert seen["runtime"] >= 0
    failed = flower.task(tasks.fail.delay("ink").id, "FAILURE")
    assert failed["exception"] == "Expected('ink')"
    assert "raise Expected" in failed["traceback"]
    again = flower.task(tasks.succeed_on_try.delay(2).id, "SUCCESS")
    assert again["retried"]
    late = flower.task(tasks.add.apply_async((1, 1), expires=-1).id, "REVOKED")
    assert late["revoked"]
    listed = flower.get("/api/tasks", workername=NODE, taskname=f"{NAMES}add", state="SUCCESS")
    assert "5" in {one["result"] for one in listed.values()}
    metrics = flower.get("/metrics")
    assert f'flower_events_total{{task="{NAMES}add",type="task-succeeded",worker="{NODE}"}}' in metrics


def test_it_sends_a_task(flower: Flower) -> None:
    sent = flower.post(f"/api/task/send-task/{NAMES}add", {"args": [20, 3], "queue": OURS})
    assert AsyncResult(sent["task-id"]).get(timeout=WAIT) == 23
    assert flower.task(sent["task-id"], "SUCCESS")["result"] == "23"


def test_it_revokes_a_task_that_runs_and_one_that_waits(fleet: Fleet, flower: Flower) -> None:
    # RabbitMQ does not tell what waits in it; there a revoked task ends when it is due.
    countdown = 5 if fleet.is_rabbit else 3600
    running, waiting = tasks.nap.delay(60), tasks.add.apply_async((1, 1), countdown=countdown)
    flower.task(running.id, "STARTED")
    (active,) = flower.worker()["active"]
    assert (active["id"], active["name"], active["args"]) == (running.id, f"{NAMES}nap", "(60,)")
    scheduled = [one["request"]["id"] for one in flower.worker()["scheduled"]]
    assert scheduled == ([] if fleet.is_rabbit else [waiting.id])
    assert flower.post(f"/api/task/revoke/{running.id}", terminate="true") == {
        "message": f"Revoked '{running.id}'"
    }
    flower.post(f"/api/task/revoke/{waiting.id}")
    for result in (running, waiting):
        wait_until(lambda result=result: result.state == "REVOKED", WAIT, "the task to end as revoked")
    assert flower.task(running.id, "REVOKED")["worker"] == NODE
    assert {running.id, waiting.id} <= set(flower.worker()["revoked"])


def test_it_changes_the_size_of_the_pool(flower: Flower) -> None:
    def size() -> int:
        return int(flower.worker()["stats"]["pool"]["max-concurrency"])

    assert flower.post(f"/api/worker/pool/grow/{NODE}", n=3) == {
        "message": f"Growing '{NODE}' worker's pool by 3"
    }
    assert size() == 5
    wait_until(lambda: len(flower.worker()["stats"]["pool"]["processes"]) == 5, WAIT, "the children")
    assert "Shrinking" in flower.post(f"/api/worker/pool/shrink/{NODE}", n=3)["message"]
    assert size() == 2
    assert "Autoscale not enabled" in flower.post(f"/api/worker/pool/autoscale/{NODE}", min=1, max=3)
    assert "Pool restarts not enabled" in flower.post(f"/api/worker/pool/restart/{NODE}")


def test_it_adds_and_cancels_a_consumer(flower: Flower) -> None:
    def queues() -> list[str]:
        return [queue["name"] for queue in flower.worker()["active_queues"]]

    said = flower.post(f"/api/worker/queue/add-consumer/{NODE}", queue="flowers")
    assert said == {"message": "add consumer flowers"}
    assert queues() == [OURS, "flowers"]
    assert tasks.add.apply_async((1, 1), queue="flowers").get(timeout=WAIT) == 2
    said = flower.post(f"/api/worker/queue/cancel-consumer/{NODE}", queue="flowers")
    assert said == {"message": "no longer consuming from flowers"}
    assert queues() == [OURS]


def test_it_sets_limits(flower: Flower) -> None:
    limited = f"{NAMES}echo"
    said = flower.post(f"/api/task/rate-limit/{limited}", workername=NODE, ratelimit="1/h")
    assert said == {"message": "new rate limit set successfully"}
    assert f"{limited} [rate_limit=1/h]" in flower.worker()["registered"]
    assert "Invalid rate limit string" in flower.post(
        f"/api/task/rate-limit/{limited}", workername=NODE, ratelimit="1/x"
    )
    said = flower.post(f"/api/task/timeout/{NAMES}nap", workername=NODE, hard=0.5)
    assert said == {"message": "time limits set successfully"}
    wait_until(tasks.nap.delay(60).failed, WAIT, "the new time limit to end the task")


def test_it_shuts_a_worker_down(flower: Flower, worker: Command) -> None:
    assert flower.post(f"/api/worker/shutdown/{NODE}") == {"message": "Shutting down!"}
    assert worker.wait(within=30) == 0
    wait_until(lambda: flower.workers()[NODE] is False, WAIT, "Flower to see it go")
