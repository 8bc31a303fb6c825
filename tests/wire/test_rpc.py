"""Results as messages (`rpc://`): stock clients read what our worker answers, and we what a stock one does.

Each process has a queue for its answers; threads share it, a fork has another.
"""

from __future__ import annotations

import base64
import gc
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu.pools
import pytest
import redis
from celery import Celery
from celery.result import AsyncResult

from djqueue import enqueue_many
from djqueue.core.names import reply_address
from djqueue.result.backends import backend
from tests.project import tasks
from tests.support.fleet import OURS, THEIRS, Fleet
from tests.support.processes import ROOT
from tests.support.waiting import wait_until
from tests.wire import stock
from tests.wire.stock import NAMES, Expected

pytestmark = pytest.mark.wire

OVER_RABBIT = True

WAIT = 20.0


@pytest.fixture(scope="module", autouse=True)
def workers(fleet: Fleet) -> None:
    fleet.djqueue(RESULT_BACKEND="rpc://")
    fleet.celery(result_backend="rpc://", task_track_started=True)


@pytest.fixture
def celery(fleet: Fleet) -> Iterator[Celery]:
    told = {**fleet.stock_settings, "task_default_queue": OURS, "result_backend": "rpc://"}
    made = stock.client(fleet.broker, **told)
    yield made
    gc.collect()
    for left in gc.get_objects():
        if isinstance(left, AsyncResult):
            left.backend = None  # or it says goodbye, when it goes, to a server that has gone before
    if made.backend.result_consumer._consumer is not None:
        made.backend.result_consumer.stop()
    kombu.pools.reset()
    made.close()


@pytest.fixture
def djqueue(fleet: Fleet, settings: Any) -> None:
    settings.DJQUEUE = fleet.settings(RESULT_BACKEND="rpc://")


def test_a_stock_client_waits_for_what_our_worker_answers(celery: Celery) -> None:
    results = [celery.send_task(f"{NAMES}add", (number, 1)) for number in range(50)]
    assert [result.get(timeout=WAIT) for result in results] == [number + 1 for number in range(50)]
    with pytest.raises((Expected, tasks.Expected), match="out of ink"):
        celery.send_task(f"{NAMES}fail", ("out of ink",)).get(timeout=WAIT)


def test_a_stock_client_sees_the_states_on_the_way(celery: Celery) -> None:
    result = celery.send_task(f"{NAMES}nap", (2,))
    wait_until(lambda: result.state == "STARTED", WAIT, "the task to be seen running")
    assert result.get(timeout=WAIT) == 2


@pytest.mark.usefixtures("djqueue")
@pytest.mark.parametrize("queue", [OURS, THEIRS])
def test_we_wait_for_what_either_worker_answers(queue: str) -> None:
    results = enqueue_many([tasks.add.s(number, 1).set(queue=queue) for number in range(50)])
    assert [result.get(timeout=WAIT) for result in results] == [number + 1 for number in range(50)]
    result = tasks.fail.apply_async(["out of ink"], queue=queue)
    with pytest.raises((Expected, tasks.Expected), match="out of ink"):
        result.get(timeout=WAIT)
    assert result.state == "FAILURE"
    assert tasks.succeed_on_try.apply_async([3], queue=queue).get(timeout=WAIT) == 3


@pytest.mark.usefixtures("djqueue")
def test_states_are_seen_on_the_way() -> None:
    result = tasks.nap.apply_async([1], queue=THEIRS)
    wait_until(lambda: result.state == "STARTED", WAIT, "the task to be seen running")
    assert result.get(timeout=WAIT) == 1


@pytest.mark.usefixtures("djqueue")
def test_any_thread_waits_for_any_task() -> None:
    results = [tasks.nap.apply_async([0.01 * (number % 5)], queue=OURS) for number in range(30)]
    found: dict[str, Any] = {}

    def wait(mine: list[Any]) -> None:
        for result in mine:
            found[result.id] = result.get(timeout=WAIT)

    threads = [threading.Thread(target=wait, args=[results[start::3][::-1]]) for start in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {result.id: 0.01 * (number % 5) for number, result in enumerate(results)}


@pytest.mark.usefixtures("djqueue")
def test_a_chain_answers_with_each_of_its_parts() -> None:
    last = (tasks.add.s(1, 1) | tasks.add.s(2)).apply_async()
    assert (last.get(timeout=WAIT), last.parent.get(timeout=WAIT)) == (4, 2)


FORKING = """
import os, sys, django
django.setup()
from tests.project import tasks
assert tasks.add.delay(1, 2).get(timeout=20) == 3
before = tasks.add.delay(2, 2)
child = os.fork()
if not child:
    os._exit(0 if tasks.add.delay(20, 2).get(timeout=20) == 22 else 1)
assert os.waitpid(child, 0)[1] == 0
assert before.get(timeout=20) == 4
"""


def test_a_forked_process_has_answers_of_its_own(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "forking.py").write_text(FORKING)
    environment = {
        "DJQUEUE_TEST_SETTINGS": json.dumps(fleet.settings(RESULT_BACKEND="rpc://")),
        "PYTHONPATH": str(ROOT),
    }
    ran = fleet.processes.run(sys.executable, str(tmp_path / "forking.py"), **environment)
    assert ran.wait(within=60) == 0, ran.log()


@pytest.mark.usefixtures("djqueue")
def test_what_nobody_collects_expires(fleet: Fleet, server: redis.Redis) -> None:
    if fleet.is_rabbit:
        pytest.skip("RabbitMQ sees to that by itself")
    tasks.add.delay(1, 1)
    key = reply_address()
    wait_until(lambda: 0 < server.ttl(key) <= 86_400, WAIT, "the answer")
    backend().forget_many(["nothing"])  # which collects it
    assert not server.exists(key)


def test_the_message_is_celerys(fleet: Fleet, server: redis.Redis, celery: Celery) -> None:
    """As in the dump of a stock worker's answer: only the body has something of ours, at its end."""
    if fleet.is_rabbit:
        pytest.skip("the messages are looked at in Redis")
    ours, theirs = (answer(server, celery, queue) for queue in (OURS, THEIRS))
    bodies = [json.loads(base64.b64decode(one.pop("body"))) for one in (ours, theirs)]
    assert ours == theirs
    assert list(bodies[0].pop("djq")) == ["date_started", "attempt"]
    for body in bodies:
        del body["date_done"], body["worker"], body["queue"]
    assert bodies[0] == bodies[1]
    assert list(bodies[0]) == list(bodies[1])


def test_answers_go_to_disk_only_when_that_is_asked_for(
    fleet: Fleet, server: redis.Redis, celery: Celery
) -> None:
    if fleet.is_rabbit:
        pytest.skip("the messages are looked at in Redis")
    keeping = fleet.djqueue(queue="keeping", name="keeping", RESULT_BACKEND="rpc://", RESULT_PERSISTENT=True)
    assert answer(server, celery, "keeping")["properties"]["delivery_mode"] == 2
    assert answer(server, celery, OURS)["properties"]["delivery_mode"] == 1
    keeping.terminate()


def answer(server: redis.Redis, celery: Celery, queue: str) -> Any:
    """Return the end of a task, as the worker of that queue sends it, without what is never the same."""
    address = f"answers from {queue}"
    celery.send_task(f"{NAMES}add", (2, 2), queue=queue, reply_to=address, task_id="the same")
    wait_until(lambda: b"SUCCESS" in base64.b64decode(newest(server, address)["body"]), WAIT, "the answer")
    raw = newest(server, address)
    del raw["properties"]["delivery_tag"]
    assert raw["properties"]["delivery_info"].pop("routing_key") == address
    return raw


def newest(server: redis.Redis, address: str) -> Any:
    """Return the last message that was put into the list."""
    return json.loads(server.lindex(address, 0) or b'{"body": ""}')
