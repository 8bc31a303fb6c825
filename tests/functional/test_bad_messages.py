"""Messages that are no tasks, put into Redis by hand: none stops the worker, none vanishes.

Each is followed by a good task, which must run; what cannot be run becomes one dead letter with a reason and
one short line in the log, and its id, where it can be read, gets the state FAILURE. Promises M01–M33.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import random
import re
import uuid
import zlib
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.fleet import OURS, Fleet, at_sea
from tests.support.ledger import ENDED, STARTED, Ledger
from tests.support.processes import Command
from tests.support.servers import Server
from tests.support.waiting import wait_until
from tests.wire.messages import LEFT_OUT, base64_of, envelope, push, task

WAIT = 10.0
NAMES = "tests.project.tasks."
LONGEST_LINE = 2048

Make = Callable[[str], bytes]


@dataclass(frozen=True)
class Bad:
    """A message, the reason of its dead letter, and whether its sender can be told."""

    make: Make
    reason: str = "invalid_envelope"
    is_told: bool = True


def embed(**parts: Any) -> Any:
    """Return a good body with a bad part in what is to follow."""
    return [[2, 2], {}, parts]


def headers(**changed: Any) -> Make:
    """Return a message with changed headers."""
    return lambda i: task(i, headers=changed)


def body(content: Any) -> Make:
    """Return a message with another body."""
    return lambda i: task(i, body=content)


def compressed(name: str, content: bytes) -> Make:
    """Return a message whose body is compressed."""
    return lambda i: task(i, encoded=base64_of(content), headers={"compression": name})


#: The headers are good, so that a child opens the body; it refuses the task.
IN_BODY = "rejected"
PICKLE = "application/x-python-serialize"
GZIP = "application/x-gzip"
GOOD_BODY = json.dumps([[2, 2], {}, {}]).encode()
DEEP = "[" * 200_000 + "]" * 200_000
BOMB = zlib.compress(b'[["' + b" " * 200_000_000 + b'"], {}, {}]', 9)

BAD: dict[str, Bad] = {
    "not JSON": Bad(lambda i: f"no json {i}".encode(), "undecodable", is_told=False),
    "not text": Bad(lambda i: b"\xff\xfe\x00" + i.encode(), "undecodable", is_told=False),
    "nothing": Bad(lambda i: b"", "undecodable", is_told=False),
    "a bare number": Bad(lambda i: b"42", is_told=False),
    "{}": Bad(lambda i: b"{}", is_told=False),
    "headers a list": Bad(lambda i: task(i, headers=None).replace(b'"headers": {', b'"headers": [], "x": {')),
    "no headers, body of protocol 2": Bad(
        lambda i: envelope(None, embed(), properties={"correlation_id": i})
    ),
    "bad base64": Bad(lambda i: task(i, encoded="a"), "undecodable"),
    "pickle": Bad(lambda i: task(i, encoded=base64_of(b"\x80\x04N."), content_type=PICKLE), IN_BODY),
    "unknown content type": Bad(lambda i: task(i, content_type="application/x-nobody"), IN_BODY),
    "body not a triple": Bad(body({"not": "a triple"}), IN_BODY),
    "body of four": Bad(body([[], {}, {}, {}]), IN_BODY),
    "args a number": Bad(body([4, {}, {}]), IN_BODY),
    "empty body": Bad(lambda i: task(i, encoded=""), IN_BODY),
    "body null": Bad(lambda i: task(i, encoded=None).replace(b'"body": "', b'"body": null, "x": "')),
    "no id": Bad(
        lambda i: task(LEFT_OUT, properties={"correlation_id": LEFT_OUT, "app_id": i}), is_told=False
    ),
    "unknown task": Bad(headers(task="nobody.declares.this"), "unknown_task"),
    "bad eta": Bad(headers(eta="when the cows come home")),
    "eta a number": Bad(headers(eta=5)),
    "bad expires": Bad(headers(expires={"in": 5})),
    "unknown compression": Bad(compressed("application/x-nobody", GOOD_BODY), IN_BODY),
    "compression a list": Bad(headers(compression=["zlib"]), IN_BODY),
    "truncated gzip": Bad(compressed(GZIP, zlib.compress(GOOD_BODY)[:-4]), IN_BODY),
    "a bomb": Bad(compressed(GZIP, BOMB), IN_BODY),
    "a body of many levels": Bad(lambda i: task(i, encoded=base64_of(f"[{DEEP}, {{}}, {{}}]")), IN_BODY),
    "headers of many levels": Bad(
        lambda i: task(i, headers={"deep": "?"}).replace(b'"?"', DEEP.encode()), "undecodable", is_told=False
    ),
    "retries as text": Bad(headers(retries="three")),
    "retries beyond counting": Bad(headers(retries=10**30)),
    "retries below zero": Bad(headers(retries=-1)),
    "timelimit as text": Bad(headers(timelimit="thirty")),
    "timelimit of texts": Bad(headers(timelimit=["1", "2"])),
    "timelimit infinite": Bad(headers(timelimit=[float("inf"), None])),
    "task null": Bad(headers(task=None)),
    "task a list": Bad(headers(task=["add"])),
    "bad stamps": Bad(headers(stamped_headers=[1], stamps="x")),
    "an id of 2 MB": Bad(lambda i: task(i + "x" * 2_000_000), is_told=False),
    "an id with NUL": Bad(lambda i: task(f"{i}\0"), is_told=False),
    "an id with half a character": Bad(lambda i: task(f"{i}\ud800"), is_told=False),
    "an id that is a number": Bad(lambda i: task(5, properties={"app_id": i}), is_told=False),
    "callbacks a number": Bad(body(embed(callbacks=5)), IN_BODY),
    "callbacks without tasks": Bad(body(embed(callbacks=[{"args": []}])), IN_BODY),
    "errbacks a text": Bad(body(embed(errbacks="x")), IN_BODY),
    "chain a text": Bad(body(embed(chain="x")), IN_BODY),
    "chain of numbers": Bad(body(embed(chain=[1, 2])), IN_BODY),
    "chord a list": Bad(body(embed(chord=[1])), IN_BODY),
}

#: Odd, and yet there is no doubt what is meant.
ODD: dict[str, Make] = {
    "properties null": lambda i: task(i, encoded=GOOD_BODY.decode()).replace(
        b'"properties": {', b'"properties": null, "x": {'
    ),
    "an encoding nobody knows, of JSON": lambda i: task(i, content_encoding="utf-99"),
    "real gzip where kombu writes zlib": compressed(GZIP, gzip.compress(GOOD_BODY)),
    "delivery_info null": lambda i: task(i, properties={"delivery_info": None}),
    "delivery_info a text": lambda i: task(i, properties={"delivery_info": "x"}),
    "delivery tag a list": lambda i: task(i, properties={"delivery_tag": [1]}),
    "delivery tag a number": lambda i: task(i, properties={"delivery_tag": 7}),
    "keys twice": lambda i: task(i).replace(b'"headers": {', b'"headers": {"x": 1}, "headers": {'),
    "a number beyond floats": lambda i: task(i, headers={"x": "?"}).replace(b'"?"', b"1e400"),
    "priority a list": lambda i: task(i, properties={"priority": [1]}),
    "redelivered a text": headers(redelivered="perhaps", **{"x-delivery-count": "many"}),
}


@pytest.fixture(scope="module")
def fleet(
    redis_server: Server, django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    with at_sea(redis_server.url, tmp_path_factory.mktemp("fleet")) as ready:
        yield ready


@pytest.fixture(scope="module")
def worker(fleet: Fleet) -> Command:
    """Return a worker that puts unknown tasks aside at once; test_unknown_tasks.py has the others."""
    return fleet.djqueue(TASK_UNKNOWN_REQUEUES=0)


@pytest.fixture
def server(fleet: Fleet) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(fleet.url) as connection:
        yield connection


def result_of(server: redis.Redis, task_id: str) -> dict[str, Any]:
    """Return the stored document, or {}."""
    found: dict[str, Any] = json.loads(server.get(f"celery-task-meta-{task_id}") or "{}")
    return found


def run_a_good_one(server: redis.Redis) -> None:
    """Send a good task and wait for its result."""
    good = str(uuid.uuid4())
    push(server, OURS, task(good))
    wait_until(lambda: result_of(server, good).get("status") == "SUCCESS", WAIT, "a good task to run")


def letters(server: redis.Redis) -> list[dict[str, Any]]:
    """Return the dead letters."""
    return [json.loads(letter) for letter in server.hvals("djq:dead")]


def message_in(letter: dict[str, Any]) -> bytes:
    """Return the bytes that were in the queue."""
    if "message_base64" in letter:
        return b64decode(letter["message_base64"])
    return str(letter["message"]).encode()


@pytest.mark.parametrize("row", BAD)
def test_a_bad_message_becomes_one_dead_letter_and_one_line(
    server: redis.Redis, worker: Command, row: str
) -> None:
    bad = BAD[row]
    task_id = str(uuid.uuid4())
    raw = bad.make(task_id)
    server.delete("djq:dead", "djq:dead_index")
    read = len(worker.log())
    push(server, OURS, raw)
    run_a_good_one(server)
    (letter,) = wait_until(lambda: letters(server), WAIT, "the dead letter")
    assert letter["reason"] == bad.reason, letter["detail"]
    assert message_in(letter) == raw
    assert letter["detail"]
    lines = [line for line in worker.log()[read:].splitlines() if "djq.dead" in line]
    assert len(lines) == 1
    assert max(len(line.encode()) for line in worker.log()[read:].splitlines()) <= LONGEST_LINE
    document = result_of(server, task_id)
    assert document.get("status") == ("FAILURE" if bad.is_told else None)
    wait_until(lambda: server.hlen("unacked") == 0, WAIT, "both to be settled")
    assert worker.exit_status is None


@pytest.mark.parametrize("row", ODD)
def test_an_odd_message_is_run(server: redis.Redis, worker: Command, row: str) -> None:
    task_id = str(uuid.uuid4())
    push(server, OURS, ODD[row](task_id))
    wait_until(lambda: result_of(server, task_id).get("status") == "SUCCESS", WAIT, "the task to run")


def mutated(raw: bytes, chance: random.Random) -> bytes:
    """Return the bytes with some changed, cut out, doubled or put elsewhere."""
    changed = bytearray(raw)
    for _ in range(chance.randint(1, 6)):
        start = chance.randrange(len(changed) + 1)
        piece = changed[start : start + chance.randint(1, 12)]
        where = chance.randrange(len(changed) + 1)
        match chance.randrange(4):
            case 0:
                del changed[start : start + len(piece)]
            case 1:
                changed[where:where] = piece
            case 2:
                changed[where : where + len(piece)] = piece
            case _:
                changed[where:where] = bytes(chance.choices(b'{}[]",:0123\\\x00\xffntf', k=3))
    return bytes(changed)


#: what the log says of a message that was dealt with; each says one of them
DEALT_WITH = re.compile(r"djq\.dead reason=(?!rejected)|\] received$|\] revoked: ", re.MULTILINE)


def test_thousands_of_mutilated_messages_do_not_stop_the_worker_and_none_is_lost(
    server: redis.Redis, worker: Command
) -> None:
    """Promise M29; 20 is the seed that is kept."""
    chance = random.Random(20)
    kinds = [
        task("0" * 36),
        task("0" * 36, body=embed(callbacks=None, errbacks=None, chain=None, chord=None)),
        envelope({}, {"task": "t", "id": "i"}),
        task("0" * 36, headers={"eta": None, "expires": None, "retries": 0, "timelimit": [None, None]}),
    ]
    for _ in range(20):
        read = len(worker.log())
        push(server, OURS, *(mutated(chance.choice(kinds), chance) for _ in range(1_000)))
        wait_until(lambda: server.llen(OURS) == 0, 60, "all of them to be read")
        wait_until(lambda: server.hlen("unacked") == 0, 60, "all of them to be settled")
        later = server.zcard(f"djq:delayed:{OURS}")
        said = wait_until(
            lambda read=read, later=later: (
                len(found := DEALT_WITH.findall(worker.log()[read:])) + later >= 1_000 and found
            ),
            WAIT,
            "the log to tell of all of them",
        )
        assert len(said) + later == 1_000
        assert max(len(line.encode()) for line in worker.log()[read:].splitlines()) <= LONGEST_LINE
        server.delete(f"djq:delayed:{OURS}")
    run_a_good_one(server)
    assert worker.exit_status is None


def peak(pid: int) -> int:
    """Return the most memory that a process has held since `forget_peaks`, KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


HUGE = b'[["' + b" " * 400_000_000 + b'"], {}, {}]'
#: what is to fill the memory of whoever opens it
BOMBS: dict[str, Callable[[str], bytes]] = {
    "zlib": compressed(GZIP, zlib.compress(HUGE, 9)),
    "gzip": compressed(GZIP, gzip.compress(HUGE, 9)),
    "bzip2": compressed("application/x-bz2", bz2.compress(HUGE)),
    "lzma": compressed("application/x-lzma", lzma.compress(HUGE, preset=6)),
    "levels": lambda i: task(i, encoded=base64_of(f"[{DEEP}, {{}}, {{}}]")),
    "an id of 2 MB": lambda i: task(i + "x" * 2_000_000, properties={"correlation_id": i}),
    "many keys twice": lambda i: task(i).replace(b'"headers": {', b'"headers": {' + b'"x": 1, ' * 200_000),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_takes_little_memory(server: redis.Redis, worker: Command, bomb: str) -> None:
    """Promise M31: at most 32 MB more, in the main process and in the children."""
    run_a_good_one(server)
    processes = [worker.pid, *worker.descendants()]
    before = {}
    for pid in processes:
        forget_peak(pid)
        before[pid] = peak(pid)
    for _ in range(4):
        push(server, OURS, BOMBS[bomb](str(uuid.uuid4())))
        wait_until(lambda: server.llen(OURS) == 0 and server.hlen("unacked") == 0, 30, "it to be settled")
    assert set(worker.descendants()) >= set(processes[1:]), "none of them had to be replaced"
    grown = {pid: peak(pid) - before[pid] for pid in processes}
    assert max(grown.values()) <= 32 * 1024, grown
    run_a_good_one(server)


def test_a_poisonous_task_among_a_thousand_good_ones_is_put_aside_and_harms_none(
    server: redis.Redis, worker: Command, tmp_path: Path
) -> None:
    """Promise M33."""
    died, done = tmp_path / "died", tmp_path / "done"
    poison = str(uuid.uuid4())
    good = [str(uuid.uuid4()) for _ in range(1_000)]
    messages = [task(i, headers={"task": f"{NAMES}record"}, body=[[str(done)], {}, {}]) for i in good]
    messages.insert(500, task(poison, headers={"task": f"{NAMES}die"}, body=[[str(died), 1_000], {}, {}]))
    read = len(worker.log())
    push(server, OURS, *messages)
    wait_until(lambda: result_of(server, poison).get("status") == "FAILURE", 60, "the poison to be put aside")
    assert Ledger(died).ids(STARTED) == [poison] * 5
    assert all(result_of(server, i).get("status") == "SUCCESS" for i in good)
    assert sorted(Ledger(done).ids(ENDED)) == sorted(good)
    assert worker.log()[read:].count("djq.dead reason=max_deliveries") == 1
    run_a_good_one(server)
