"""A task that is sent before all workers have its code: promise M30, on the database and on Redis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from djqueue import app
from djqueue.exceptions import NotRegistered
from djqueue.models import DeadLetter
from tests.support.processes import Command, Processes
from tests.support.waiting import wait_until

WAIT = 30.0
NAME = "brand_new.answer"
#: answers with what a broker must have kept of the message
CODE = """
from djqueue import shared_task

@shared_task(bind=True)
def answer(self):
    request = self.request
    return [request.starts, (request.headers or {}).get("colour"), request.delivery_info["priority"]]
"""


@pytest.fixture(params=["database", "redis"])
def broker(request: pytest.FixtureRequest, settings: Any) -> str:
    """Use a broker of each kind; return its URL."""
    if request.param == "database":
        settings.DJQUEUE = {}
        return ""
    url: str = request.getfixturevalue("redis_server").url
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    settings.DJQUEUE = {"BROKER_URL": url, "RESULT_BACKEND": url}
    return url


def start(processes: Processes, name: str, own: dict[str, Any], path: Path | None = None) -> Command:
    """Start a worker; one with a `path` has the new code."""
    settings = own | ({"IMPORTS": ["brand_new"]} if path else {})
    environment = {"PYTHONPATH": str(path)} if path else {}
    worker = processes.start("runworker", "-c", "1", "-n", f"{name}@test", settings=settings, **environment)
    worker.wait_for_line("djq.worker.ready")
    return worker


def test_a_task_that_this_worker_does_not_know_goes_to_one_that_does(
    processes: Processes, broker: str, settings: Any, tmp_path: Path
) -> None:
    (tmp_path / "brand_new.py").write_text(CODE)
    old = start(processes, "old", settings.DJQUEUE)
    result = app.send_task(NAME, headers={"colour": "red"}, priority=3)
    old.wait_for_line(rf"djq.unknown task={NAME}\[{result.id}\] requeued_for=1s")
    start(processes, "new", settings.DJQUEUE, tmp_path)
    assert old.terminate() == 0
    assert result.get(timeout=WAIT) == [0, "red", 3]


def test_a_task_that_nobody_knows_is_a_dead_letter_in_the_end(
    processes: Processes, broker: str, settings: Any
) -> None:
    settings.DJQUEUE = {**settings.DJQUEUE, "TASK_UNKNOWN_REQUEUES": 1}
    worker = start(processes, "old", settings.DJQUEUE)
    result = app.send_task("nobody.declares.this")
    with pytest.raises(NotRegistered):
        result.get(timeout=WAIT)
    worker.wait_for_line("djq.dead reason=unknown_task")
    assert worker.log().count("requeued_for=1s") == 1

    def letters() -> list[Any]:
        if not broker:
            return list(DeadLetter.objects.values_list("reason", "task_id"))
        with redis.Redis.from_url(broker) as client:
            found = [json.loads(letter) for letter in client.hvals("djq:dead")]
        return [(one["reason"], json.loads(one["message"])["headers"]["id"]) for one in found]

    assert wait_until(letters, WAIT, "the dead letter") == [("unknown_task", result.id)]
