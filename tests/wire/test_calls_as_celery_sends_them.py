"""The same calls, made with a stock Celery and with djqueue, are the same messages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import celery
import pytest
from celery.signals import before_task_publish

from djqueue import chain, shared_task
from djqueue.conf import settings
from tests.support.in_process import Inbox

pytestmark = pytest.mark.wire

Send = Callable[[Any, Any], Any]

CASES: dict[str, Send] = {
    "delay": lambda add, chain: add.delay(1, y=2),
    "options": lambda add, chain: add.apply_async(
        (1, 2),
        shadow="s",
        headers={"h": 1},
        time_limit=4,
        root_id="r",
        parent_id="p",
        group_id="g",
        group_index=1,
        retries=2,
    ),
    "links": lambda add, chain: add.apply_async(
        (2, 2), link=add.s(3), link_error=[add.si(4, 5)], task_id="T"
    ),
    "a signature": lambda add, chain: add.s(2).set(priority=3).apply_async((1,), shadow="x"),
    "a chain": lambda add, chain: chain(add.s(1, 1), add.s(2), add.s(3)).apply_async(),
    "a chain with options": lambda add, chain: chain(add.s(1, 1), add.s(2), add.s(3)).apply_async(
        task_id="T", link=add.s(7), link_error=add.s(8), priority=3
    ),
    "a chain in a chain": lambda add, chain: chain(
        add.s(1, 1), chain(add.s(2), add.s(3)), add.s(4)
    ).apply_async(),
    "a chain of steps with options": lambda add, chain: (
        add.s(1, 1).on_error(add.s(9)) | add.s(2).set(queue="q2", countdown=3)
    ).apply_async(),
}


def add(x: int, y: int) -> int:
    return x + y


@pytest.fixture
def theirs() -> Iterator[Callable[[Send], tuple[Any, Any]]]:
    """Return what a stock Celery would publish."""
    app = celery.Celery("peer", broker="memory://", set_as_current=False)
    task = app.task(name="wire.add")(add)
    seen: list[tuple[Any, Any]] = []

    def look(body: Any, headers: Any, properties: Any, **_: Any) -> None:
        seen.append(({**headers}, [body, {"priority": properties.get("priority")}]))

    before_task_publish.connect(look)
    yield lambda send: (send(task, celery.chain), seen.pop())[1]
    before_task_publish.disconnect(look)
    app.close()


def comparable(headers: dict[str, Any], body: Any) -> str:
    """Return all of it as text in which made-up ids have the names of their places."""
    text = json.dumps([{name: value for name, value in headers.items() if name != "origin"}, body])
    places: dict[str, str] = {}
    return re.sub(
        r"[0-9a-f]{8}-[0-9a-f-]{27}", lambda found: places.setdefault(found[0], f"id {len(places)}"), text
    )


@pytest.mark.parametrize("case", CASES)
def test_a_call_is_the_same_message(case: str, theirs: Callable[[Send], tuple[Any, Any]]) -> None:
    with settings.override(BROKER_URL="memory://"):
        CASES[case](shared_task(name="wire.add")(add), chain)
        message = Inbox().next().message
    body = [json.loads(message.body), {"priority": message.properties["priority"] or None}]
    assert comparable(message.headers, body) == comparable(*theirs(CASES[case]))
