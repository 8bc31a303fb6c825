"""Chains whose parts run on both sides, and what both write into the result store, key by key."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
import redis
from celery import Celery
from celery import chain as celery_chain

from djqueue import app, chain
from tests.project import tasks
from tests.support.fleet import OURS, THEIRS, Fleet
from tests.support.waiting import wait_until
from tests.wire.stock import NAMES

pytestmark = [pytest.mark.wire, pytest.mark.usefixtures("djqueue")]

WAIT = 20.0
OVER_RABBIT = True
#: The key under which djqueue keeps, at the end of a document, what Celery has no place for.
OUR_KEY = "djq"


@pytest.fixture(scope="module", autouse=True)
def both(fleet: Fleet) -> None:
    fleet.djqueue()
    fleet.celery(task_track_started=True)


# Chains


@pytest.mark.parametrize("queues", [(OURS, THEIRS, OURS), (THEIRS, OURS, THEIRS)], ids=" → ".join)
def test_a_chain_of_djqueue_runs_on_both_sides(queues: tuple[str, ...]) -> None:
    parts = [tasks.add.s(1, 1), tasks.add.s(2), tasks.add.s(3)]
    last = chain(*(part.set(queue=queue) for part, queue in zip(parts, queues, strict=True))).delay()
    assert [last.get(timeout=WAIT), last.parent.get(), last.parent.parent.get()] == [7, 4, 2]
    assert [last.parent.parent.queue, last.parent.queue, last.queue] == list(queues)


@pytest.mark.parametrize("queues", [(OURS, THEIRS, OURS), (THEIRS, OURS, THEIRS)], ids=" → ".join)
def test_a_chain_of_celery_runs_on_both_sides(celery: Celery, queues: tuple[str, ...]) -> None:
    add = celery.signature(f"{NAMES}add")
    parts = [add.clone((1, 1)), add.clone((2,)), add.clone((3,))]
    wanted = (part.set(queue=queue) for part, queue in zip(parts, queues, strict=True))
    last = celery_chain(*wanted, app=celery).apply_async()
    assert [last.get(timeout=WAIT), last.parent.get(), last.parent.parent.get()] == [7, 4, 2]
    assert [last.parent.parent.queue, last.parent.queue, last.queue] == list(queues)


@pytest.mark.parametrize("queues", [(OURS, THEIRS), (THEIRS, OURS)], ids=" → ".join)
def test_the_family_is_known_across_the_border(queues: tuple[str, str]) -> None:
    first, second = queues
    parts = [tasks.describe.s().set(queue=first), tasks.describe.s().set(queue=second)]
    last = chain(*parts).delay()
    described = last.get(timeout=WAIT)
    assert described["root_id"] == described["parent_id"] == last.parent.id
    assert [child.id for child in last.parent.children] == [last.id]


@pytest.mark.parametrize("queues", [(OURS, THEIRS), (THEIRS, OURS)], ids=" → ".join)
def test_a_failure_on_one_side_ends_the_chain_on_the_other(queues: tuple[str, str]) -> None:
    first, second = queues
    last = chain(tasks.fail.s("early").set(queue=first), tasks.add.s(1).set(queue=second)).delay()
    with pytest.raises(Exception, match="early") as caught:
        last.get(timeout=WAIT)
    assert type(caught.value).__name__ == "Expected"


@pytest.mark.parametrize("queues", [(OURS, THEIRS), (THEIRS, OURS)], ids=" → ".join)
def test_a_callback_runs_on_the_other_side(queues: tuple[str, str]) -> None:
    first, second = queues
    linked = tasks.add.apply_async((1, 2), queue=first, link=tasks.add.s(10).set(queue=second))
    assert linked.get(timeout=WAIT) == 3
    (child,) = linked.children
    assert child.get(timeout=WAIT) == 13
    assert child.queue == second


# Documents


def document(server: redis.Redis, task_id: str, state: str) -> dict[str, Any]:
    """Return the stored document once it has that state, in the order it was written."""

    def stored() -> dict[str, Any] | None:
        raw = server.get(f"celery-task-meta-{task_id}")
        found: dict[str, Any] | None = raw and json.loads(raw)
        return found if found and found["status"] == state else None

    found = wait_until(stored, WAIT, f"for the document of the state {state}")
    assert found is not None
    return found


CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "success": ("add", {"args": (2, 2)}, "SUCCESS"),
    "keyword arguments": ("echo", {"args": ("a",), "kwargs": {"k": [1, {"x": None}]}}, "SUCCESS"),
    "no arguments": ("echo", {}, "SUCCESS"),
    "failure": ("fail", {"args": ("broken",)}, "FAILURE"),
    "wrong call": ("add", {"kwargs": {"z": 1}}, "FAILURE"),
    "started": ("nap", {"args": (1.5,)}, "STARTED"),
    "waiting for a retry": ("succeed_on_try", {"args": (2, 600.0)}, "RETRY"),
    "after a retry": ("succeed_on_try", {"args": (2,)}, "SUCCESS"),
    "in a family": ("add", {"args": (1, 1), "root_id": "r", "parent_id": "p"}, "SUCCESS"),
    "in a group": ("add", {"args": (1, 1), "group_id": "g"}, "SUCCESS"),
    "with a callback": ("add", {"args": (1, 1), "link": True}, "SUCCESS"),
    "stamped": ("add", {"args": (1, 1), "stamped_headers": ["st"], "st": "A"}, "SUCCESS"),
    "expired": ("add", {"args": (1, 1), "expires": "2020-01-01T00:00:00+00:00"}, "REVOKED"),
    "soft limit": ("nap", {"args": (30,), "soft_time_limit": 1}, "FAILURE"),
    "hard limit": ("nap", {"args": (30,), "time_limit": 1}, "FAILURE"),
}
#: What differs from run to run: compared by type only. Tracebacks name the files of each side.
FLEETING = {"date_done", "task_id", "worker", "queue", "traceback"}


def shape(found: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the document as pairs in their order, with what differs from run to run as its type."""
    pairs = []
    for key, value in found.items():
        if key in FLEETING:
            value = type(value).__name__
        elif key == "children":
            value = value and ["itself" if child[0][0] == found["task_id"] else "child" for child in value]
        elif key == "parent_id" and value == found["task_id"]:
            value = "itself"
        elif key == "result" and found["status"] == "STARTED":
            value = {name: type(one).__name__ for name, one in value.items()}
        elif key == "result" and isinstance(value, dict) and value.get("exc_module", "").startswith("tests."):
            value = {**value, "exc_module": "tests."}
        if key != OUR_KEY:
            pairs.append((key, value))
    return pairs


@pytest.mark.parametrize("case", CASES)
def test_both_write_the_same_document(server: redis.Redis, case: str) -> None:
    name, options, state = CASES[case]
    found = []
    for queue in (THEIRS, OURS):
        changes = {"link": tasks.add.s(1).set(queue=queue)} if options.get("link") else {}
        task_id = str(uuid.uuid4())
        app.send_task(NAMES + name, queue=queue, task_id=task_id, **{**options, **changes})
        found.append(document(server, task_id, state))
    theirs, ours = found
    assert shape(ours) == shape(theirs)
    assert list(ours)[-1] in (OUR_KEY, "task_id"), "what is ours stands at the end"


def test_of_an_unknown_task_we_write_what_celery_does_and_how_it_was_called(server: redis.Redis) -> None:
    found = []
    for queue in (THEIRS, OURS):
        result = app.send_task("nobody.declares.this", args=(1,), queue=queue)
        found.append(document(server, result.id, "FAILURE"))
    theirs, ours = (dict(shape(one)) for one in found)
    unknown_to_celery = {"name", "args", "kwargs", "worker", "retries", "queue"}
    assert list(ours) == list(theirs)
    assert {key for key in theirs if ours[key] != theirs[key]} <= unknown_to_celery
    assert {found[0][key] for key in unknown_to_celery} == {None}
    assert ours["name"] == "nobody.declares.this"


@pytest.mark.parametrize("case", ["success", "failure"])
def test_both_write_the_same_document_when_results_are_not_extended(
    fleet: Fleet, server: redis.Redis, case: str
) -> None:
    name, options, state = CASES[case]
    fleet.djqueue("-P", "solo", queue="plain ours", name=f"plain-{case}", RESULT_EXTENDED=False)
    fleet.celery("-P", "solo", queue="plain theirs", name=f"plain-stock-{case}", result_extended=False)
    found = []
    for queue in ("plain theirs", "plain ours"):
        result = app.send_task(NAMES + name, queue=queue, **options)
        found.append(document(server, result.id, state))
    theirs, ours = found
    assert shape(ours) == shape(theirs)
    assert OUR_KEY not in ours


def test_a_document_expires_and_is_published_as_celery_does(server: redis.Redis) -> None:
    task_id = str(uuid.uuid4())
    with server.pubsub() as listener:
        listener.subscribe(f"celery-task-meta-{task_id}")
        tasks.add.apply_async((2, 2), task_id=task_id)
        published = []
        while not (published and published[-1]["status"] == "SUCCESS"):
            message = wait_until(lambda: listener.get_message(timeout=1.0), WAIT, "the end to be published")
            assert message is not None
            if message["type"] == "message":
                published.append(json.loads(message["data"]))
    assert published[-1] == json.loads(server.get(f"celery-task-meta-{task_id}"))
    assert [one["status"] for one in published] in (["SUCCESS"], ["STARTED", "SUCCESS"])
    assert 86_000 < server.ttl(f"celery-task-meta-{task_id}") <= 86_400
