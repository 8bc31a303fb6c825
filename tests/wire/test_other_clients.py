"""What minimal clients send, row by row, and a client in another language, run for real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.project.tasks import add
from tests.support.fleet import OURS, THEIRS, Fleet
from tests.support.waiting import wait_until
from tests.wire.messages import ADD, LEFT_OUT, base64_of, envelope, push, task

pytestmark = pytest.mark.wire

WAIT = 20.0
PLAIN = json.dumps([[2, 2], {}, {}])


@pytest.fixture(scope="module", autouse=True)
def worker(fleet: Fleet) -> None:
    fleet.djqueue()


def ended(server: redis.Redis, task_id: str) -> dict[str, Any]:
    """Return the result's document once the task has ended."""

    def stored() -> dict[str, Any] | None:
        found: dict[str, Any] = json.loads(server.get(f"celery-task-meta-{task_id}") or "{}")
        return found if found.get("status") in ("SUCCESS", "FAILURE") else None

    found = wait_until(stored, WAIT, "the task to end")
    assert found is not None
    return found


def protocol1(task_id: str, *, headers: Any = LEFT_OUT, **body: Any) -> bytes:
    """Return a message of protocol 1."""
    whole = {"task": ADD, "id": task_id, "args": [2, 2], "kwargs": {}, **body}
    return envelope({} if headers is LEFT_OUT else headers, whole, properties={"correlation_id": task_id})


Make = Callable[[str], bytes]

ACCEPTED: dict[str, Make] = {
    "headers only lang, task, id; embed {}": task,
    "embed null": lambda i: task(i, body=[[2, 2], {}, None]),
    "body of two elements": lambda i: task(i, body=[[2, 2], {}]),
    "embed lacks keys and has others": lambda i: task(i, body=[[2, 2], {}, {"chain": None, "new": 1}]),
    "no content-encoding": lambda i: task(i, content_encoding=LEFT_OUT),
    "no content-type": lambda i: task(i, content_type=LEFT_OUT),
    "no correlation_id": lambda i: task(i, properties={"correlation_id": LEFT_OUT}),
    "no priority": lambda i: task(i, properties={"priority": LEFT_OUT}),
    "priority that is no number": lambda i: task(i, properties={"priority": "high"}),
    "no delivery_info": lambda i: task(i, properties={"delivery_info": LEFT_OUT}),
    "delivery_info null": lambda i: task(i, properties={"delivery_info": None}),
    "no delivery_tag": lambda i: task(i, properties={"delivery_tag": LEFT_OUT}),
    "constant delivery_tag": lambda i: task(i, properties={"delivery_tag": "celery"}),
    "no reply_to": lambda i: task(i, properties={"reply_to": LEFT_OUT}),
    "expiration": lambda i: task(i, properties={"expiration": "60000"}),
    "properties {}": lambda i: task(i, properties=dict.fromkeys(KOMBUS, LEFT_OUT), encoded=PLAIN),
    "body_encoding utf-8": lambda i: task(i, encoded=PLAIN, properties={"body_encoding": "utf-8"}),
    "body_encoding absent": lambda i: task(i, encoded=PLAIN, properties={"body_encoding": LEFT_OUT}),
    "timelimit null": lambda i: task(i, headers={"timelimit": None}),
    "timelimit swapped": lambda i: task(i, headers={"timelimit": [30, None]}),
    "retries null": lambda i: task(i, headers={"retries": None}),
    "eta of the past with Z": lambda i: task(i, headers={"eta": "2020-01-01T00:00:00Z"}),
    "eta without an offset": lambda i: task(i, headers={"eta": "2020-01-01T00:00:00"}),
    "eta that is a date": lambda i: task(i, headers={"eta": "2020-01-01"}),
    "eta with a fraction": lambda i: task(i, headers={"eta": "2020-01-01T00:00:00.123+02:00"}),
    "expires far away": lambda i: task(i, headers={"expires": "2099-01-01T00:00:00.5Z"}),
    "empty texts": lambda i: task(i, headers=dict.fromkeys(["eta", "expires", "group", "root_id"], "")),
    "headers of a later version": lambda i: task(i, headers={"x-new": {"deep": [1]}, "redelivered": True}),
    "headers that brokers add": lambda i: task(i, headers={"x-death": [{"count": 1}]}),
    "headers of beat": lambda i: task(i, headers={"periodic_task_name": "n", "celery_beat_task": True}),
    "protocol 1: task, id, args, kwargs": protocol1,
    "protocol 1: task, id, args": lambda i: protocol1(i, kwargs={}),
    "protocol 1: headers null": lambda i: protocol1(i, headers=None),
    "protocol 1: naive past eta": lambda i: protocol1(i, eta="2020-01-01T00:00:00"),
    "protocol 1: local time": lambda i: protocol1(i, eta="2020-01-01T00:00:00", utc=False),
    "protocol 1: nulls": lambda i: protocol1(i, **dict.fromkeys(["expires", "taskset", "chord"])),
    "hybrid": lambda i: task(i, body={"args": [2, 2], "kwargs": {}}),
    # As the clients' own sources write them.
    "node-celery": lambda i: protocol1(i, eta=None, expires=None),
    "gocelery": lambda i: protocol1(i, retries=0, eta=None, expires=None),
    "node-celery-ts": lambda i: task(
        i,
        encoded=PLAIN,
        headers={
            **dict.fromkeys(["eta", "expires", "group", "parent_id", "shadow"]),
            "timelimit": [None, None],
        },
        properties={"body_encoding": "utf-8", "delivery_tag": "celery", "priority": 0},
    ),
    "celery.node": lambda i: task(i, headers={"lang": "js"}),
}
KOMBUS = (
    *("correlation_id", "reply_to", "delivery_mode", "delivery_info", "priority"),
    *("body_encoding", "delivery_tag"),
)


@pytest.mark.parametrize("row", ACCEPTED)
def test_what_celery_accepts_is_accepted_and_what_it_breaks_on_is_run_where_it_can_be(
    server: redis.Redis, row: str
) -> None:
    task_id = str(uuid.uuid4())
    push(server, OURS, ACCEPTED[row](task_id))
    document = ended(server, task_id)
    assert document["status"] == "SUCCESS", document
    assert document["result"] == 4
    assert (document["args"], document["kwargs"]) == ([2, 2], {})
    assert list(document)[:5] == ["status", "result", "traceback", "children", "date_done"]


REFUSED: dict[str, tuple[Make, str]] = {
    "kwargs null": (lambda i: task(i, body=[[2, 2], None, {}]), "InvalidTaskError"),
    "protocol 1: kwargs null": (lambda i: protocol1(i, kwargs=None), "InvalidTaskError"),
    "protocol 1: garbage": (lambda i: protocol1(i, eta="garbage"), "InvalidTaskError"),
    "kwargs a list": (lambda i: task(i, body=[[2, 2], [], {}]), "InvalidTaskError"),
    "expires as a number": (lambda i: task(i, headers={"expires": 5}), "InvalidTaskError"),
    "eta garbage": (lambda i: task(i, headers={"eta": "garbage"}), "InvalidTaskError"),
    "body of one element": (lambda i: task(i, body=[[2, 2]]), "InvalidTaskError"),
    "content type not accepted": (
        lambda i: task(i, encoded=base64_of(b"\x80\x04N."), content_type="application/x-python-serialize"),
        "ContentDisallowed",
    ),
    "body not decodable": (lambda i: task(i, encoded=base64_of("[[2, 2], {")), "DecodeError"),
    "unknown task": (lambda i: task(i, headers={"task": "not.there"}), "NotRegistered"),
}


@pytest.mark.parametrize("row", REFUSED)
def test_what_cannot_be_run_is_stored_as_failed_where_the_id_is_readable(
    server: redis.Redis, row: str
) -> None:
    make, error = REFUSED[row]
    task_id = str(uuid.uuid4())
    push(server, OURS, make(task_id))
    document = ended(server, task_id)
    assert document["status"] == "FAILURE"
    assert document["result"]["exc_type"] == error


def test_two_messages_with_the_same_delivery_tag_both_run(server: redis.Redis) -> None:
    ids = [str(uuid.uuid4()) for _ in range(20)]
    push(server, OURS, *(task(one, properties={"delivery_tag": "celery"}) for one in ids))
    assert [ended(server, one)["result"] for one in ids] == [4] * 20


# celery.node, from npm


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory in which `require("celery-node")` works.

    `DJQUEUE_TEST_CELERY_NODE` may name one; else npm installs it. Without either the tests are skipped.
    """
    if named := os.environ.get("DJQUEUE_TEST_CELERY_NODE"):
        return Path(named)
    directory = tmp_path_factory.mktemp("node")
    if shutil.which("npm") and shutil.which("node"):
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "celery-node@0.5"]
        done = subprocess.run(command, cwd=directory, capture_output=True, timeout=50)
        if done.returncode == 0:
            return directory
    line = "No celery.node: needs node, npm and its registry, or DJQUEUE_TEST_CELERY_NODE=<directory>."
    if os.environ.get("CI") == "true":
        pytest.fail(line, pytrace=False)
    pytest.skip(line)


NODE_CLIENT = """
const celery = require("celery-node");
const [url, queue, protocol] = process.argv.slice(2);
const client = celery.createClient(url, url, queue);
client.conf.TASK_PROTOCOL = Number(protocol);
const send = (name, ...args) => client.createTask("tests.project.tasks." + name).applyAsync(args);
(async () => {
  const sum = await send("add", 2, 3).get(15000);
  const echo = await send("echo", "ünï", {a: [null]}).get(15000);
  const failed = await send("fail", "from node").get(15000).catch((error) => String(error));
  console.log(JSON.stringify({sum, echo, failed}));
  process.exit(0);
})();
"""


@pytest.mark.parametrize("protocol", [1, 2])
def test_a_node_client_sends_tasks_and_reads_results(fleet: Fleet, node: Path, protocol: int) -> None:
    script = node / "client.js"
    script.write_text(NODE_CLIENT)
    command = ["node", str(script), fleet.url, OURS, str(protocol)]
    done = subprocess.run(command, cwd=node, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["sum"] == 5
    assert answer["echo"] == [["ünï", {"a": [None]}], {}]
    assert answer["failed"] == "Error: FAILURE"


NODE_WORKER = """
const celery = require("celery-node");
const [url, queue] = process.argv.slice(2);
const worker = celery.createWorker(url, url, queue);
worker.register("tests.project.tasks.add", (x, y) => x + y);
worker.start();
console.log("ready");
"""


@pytest.mark.usefixtures("djqueue")
def test_a_node_worker_runs_what_we_send(fleet: Fleet, node: Path) -> None:
    script = node / "worker.js"
    script.write_text(NODE_WORKER)
    worker = fleet.processes.run("node", str(script), fleet.url, THEIRS)
    worker.wait_for_line("ready")
    assert add.apply_async((20, 22), queue=THEIRS).get(timeout=WAIT) == 42
