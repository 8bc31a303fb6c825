"""Records the messages of `cases.py` from the stock Celery that is installed, into `messages.json`.

Run it after adding a case: `python -m tests.unit.golden.record`. Messages are published through kombu's
memory transport and taken from its queues as the transport stored them.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import celery
from celery import Celery, chain, chord, group
from celery.canvas import Signature

from tests.unit.golden.cases import CASES, GROUP_ID, NOW, REPLY_TO, SECOND_ID, TASK_ID, THIRD_ID, Case

MESSAGES = Path(__file__).with_name("messages.json")


class StoppedCelery(Celery):
    """A Celery whose clock stands still, and whose threads all have the same address for replies."""

    thread_oid = REPLY_TO

    def now(self) -> Any:
        return NOW


def nothing(*args: Any, **kwargs: Any) -> None:
    """Stand for every task: nobody runs it."""


def make_app(case: Case) -> Celery:
    """Return an app with the tasks of the cases, unless they are sent by name only."""
    app = StoppedCelery("golden", broker="memory://", backend="cache+memory://", set_as_current=True)
    app.conf.update(task_default_queue="golden", **case.conf)
    if case.known:
        for name in ("golden.add", "golden.total", "golden.failed"):
            app.task(name=name, typing=False)(nothing)
        app.finalize()
    return app


def publish(app: Celery, case: Case) -> None:
    """Send what the case describes."""
    if not case.canvas:
        if case.known:
            app.tasks["golden.add"].apply_async(case.args, case.kwargs, task_id=TASK_ID, **case.options)
        else:
            app.send_task("golden.add", case.args, case.kwargs, task_id=TASK_ID, **case.options)
        return

    def add(*args: Any, **options: Any) -> Signature:
        return app.signature("golden.add", args=args, options=options)

    if case.canvas == "chain":
        first, second, third = (add(1, 1), add(2), add(3))
        for one, task_id in ((first, TASK_ID), (second, SECOND_ID), (third, THIRD_ID)):
            one.set(task_id=task_id)
        chain(first, second, third, app=app).apply_async()
    elif case.canvas == "group":
        members = group([add(1, 1, task_id=TASK_ID), add(2, 2, task_id=SECOND_ID)], app=app)
        members.apply_async(task_id=GROUP_ID)
    elif case.canvas == "chord":
        body = app.signature("golden.total", options={"task_id": SECOND_ID})
        header = group([add(1, 1, task_id=TASK_ID), add(2, 2, task_id=THIRD_ID)], app=app)
        chord(header, body, app=app).apply_async()


def taken(app: Celery, queue: str) -> dict[str, Any]:
    """Return the first message of the queue, as the transport holds it."""
    with app.connection_for_read() as connection:
        channel = connection.channel()
        message: dict[str, Any] = channel._get(queue)
        while channel._size(queue):
            channel._get(queue)
    return message


def record(case: Case) -> dict[str, Any]:
    """Return the message that Celery publishes for the case."""
    app = make_app(case)
    queue = "golden"
    if "exchange" in case.options:
        queue = "feeds"
        with app.connection_for_write() as connection:
            channel = connection.channel()
            channel.exchange_declare("feeds", type="topic")
            channel.queue_declare("feeds")
            channel.queue_bind("feeds", "feeds", "feeds.#")
    publish(app, case)
    return with_known_group(taken(app, queue))


def with_known_group(message: dict[str, Any]) -> dict[str, Any]:
    """Replace the random id that a chord gives its header."""
    group_id = message["headers"].get("group")
    if group_id in (None, GROUP_ID):
        return message
    body = base64.b64decode(message["body"]).replace(group_id.encode(), GROUP_ID.encode())
    message["headers"]["group"] = GROUP_ID
    message["body"] = base64.b64encode(body).decode()
    return message


def main() -> None:
    """Record every case."""
    recorded = {case.name: record(case) for case in CASES}
    document = {"celery": celery.__version__, "messages": recorded}
    MESSAGES.write_text(json.dumps(document, indent=1, ensure_ascii=True) + "\n")
    print(f"{len(recorded)} messages of Celery {celery.__version__} are in {MESSAGES}.")


if __name__ == "__main__":
    main()
