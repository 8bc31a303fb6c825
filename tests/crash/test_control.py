"""Remote control and events when the broker goes away and comes back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from djqueue import control, inspect
from djqueue.exceptions import OperationalError
from djqueue.messaging.events import Receiver
from tests.support.processes import Processes
from tests.support.servers import Server, provide
from tests.support.waiting import wait_until

pytestmark = pytest.mark.crash
WAIT = 30.0


@pytest.fixture
def own_redis() -> Iterator[Server]:
    """Return a Redis that this test may kill."""
    server = provide("redis")
    yield server
    server.close()


def test_a_worker_hears_and_tells_again_when_its_redis_is_back(
    processes: Processes, own_redis: Server, settings: pytest.FixtureRequest
) -> None:
    settings.DJQUEUE = {"BROKER_URL": own_redis.url}  # type: ignore[attr-defined]
    worker = processes.start("runworker", "-c", "1", "-n", "one@test", settings={"BROKER_URL": own_redis.url})
    worker.wait_for_line("djq.worker.ready")
    wait_until(lambda: inspect("one@test", timeout=1).ping(), WAIT, "the worker to answer")
    own_redis.kill()
    worker.wait_for_line("djq.control.deaf")
    worker.wait_for_line("djq.events.not_sent")
    with pytest.raises(OperationalError, match="cannot be reached"):
        control.ping(timeout=1)
    own_redis.restart()
    worker.wait_for_line("djq.control.hears_again", within=WAIT)
    assert inspect("one@test", timeout=5).ping() == {"ok": "pong"}
    assert next(Receiver().events(timeout=10))["type"] == "worker-heartbeat"
    assert len([line for line in worker.log().splitlines() if "djq.control.deaf" in line]) == 1
    assert worker.terminate() == 0


def test_a_worker_stops_in_time_though_its_redis_is_gone(processes: Processes, own_redis: Server) -> None:
    worker = processes.start("runworker", "-c", "1", settings={"BROKER_URL": own_redis.url})
    worker.wait_for_line("djq.worker.ready")
    own_redis.stop()
    assert worker.terminate(within=20) == 0
