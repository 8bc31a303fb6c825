"""A `runworker` that receives from one broker and sends to another, as while a project moves over."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from djqueue.messaging import brokers
from tests.project import tasks
from tests.support.processes import Processes
from tests.support.servers import Server
from tests.support.waiting import wait_until

WAIT = 30.0


def test_what_follows_a_task_is_sent_to_the_broker_that_is_written_to(
    processes: Processes, settings: Any, redis_server: Server
) -> None:
    queue = f"moving-{uuid4().hex[:8]}"
    old, new = "django://default", redis_server.url
    settings.DJQUEUE = {"BROKER_URL": old}
    both = {"BROKER_URL": "django://default", "BROKER_READ_URL": old, "BROKER_WRITE_URL": new}
    reader = processes.start("runworker", "-c", "1", "-Q", queue, settings=both)
    reader.wait_for_line("djq.worker.ready", within=WAIT)
    following = tasks.add.s(10).set(queue=queue)
    following.freeze()
    first = tasks.add.apply_async((1, 2), queue=queue, link=following)
    assert first.get(timeout=WAIT) == 3
    wait_until(lambda: brokers.broker(new).size(queue) == 1, WAIT, "for the link in the new broker")
    assert brokers.broker(old).size(queue) == 0
    settings.DJQUEUE = {"BROKER_WRITE_URL": new}
    second = tasks.add.apply_async((20, 1), queue=queue)
    assert brokers.broker(new).size(queue) == 2
    heir = processes.start("runworker", "-c", "1", "-Q", queue, settings={**both, "BROKER_READ_URL": new})
    heir.wait_for_line("djq.worker.ready", within=WAIT)
    assert second.get(timeout=WAIT) == 21
    assert tasks.add.AsyncResult(following.options["task_id"]).get(timeout=WAIT) == 13
    assert [reader.terminate(within=WAIT), heir.terminate(within=WAIT)] == [0, 0]
