"""Kill children and workers in the middle of chords: the body runs once, or learns why it cannot.

On database brokers, where everything commits together, and on Redis, where a part is counted before it is
acknowledged. A chord never hangs, whatever becomes of its parts (delivery promises RX02 and RX03).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from pymemcache.client.base import Client

from djqueue import chain, chord, group
from djqueue.conf import settings
from djqueue.exceptions import ChordError
from tests.project import tasks
from tests.support.ledger import ENDED, STARTED, Ledger
from tests.support.processes import Command, Processes
from tests.support.servers import Server
from tests.support.waiting import wait_until

#: the broker, and the default database
PLACES = [
    ("database", "sqlite"),
    ("database", "postgresql"),
    ("database", "mariadb"),
    ("redis", "sqlite"),
    ("redis, results compressed", "sqlite"),
    ("redis, results in memcached", "sqlite"),
]

pytestmark = [
    pytest.mark.crash,
    pytest.mark.timeout(180),
    pytest.mark.parametrize(("start", "database"), PLACES, indirect=True),
]

WAIT = 60.0

Start = Callable[..., Command]


@pytest.fixture
def start(request: pytest.FixtureRequest, processes: Processes) -> Iterator[Start]:
    """Return what starts a worker, and send to where it listens."""
    given: dict[str, Any] = {}
    if request.param.startswith("redis"):
        server: Server = request.getfixturevalue("redis_server")
        with redis.Redis.from_url(server.url) as client:
            client.flushdb()
        given = {
            "BROKER_URL": server.url,
            "RESULT_BACKEND": server.url,
            "BROKER_TRANSPORT_OPTIONS": {"lease": 3.0},
        }
    if "compressed" in request.param:
        given["RESULT_COMPRESSION"] = "zlib"
    if "memcached" in request.param:
        given["RESULT_BACKEND"] = request.getfixturevalue("memcached_server").url
        with closing(Client(given["RESULT_BACKEND"].partition("://")[2].rstrip("/"))) as memcached:
            memcached.flush_all(noreply=False)

    def start(name: str = "one", *flags: str) -> Command:
        words = ("runworker", "-c", "2", "-n", f"{name}@%h", *flags)
        command = processes.start(*words, settings=given) if given else processes.start(*words)
        command.wait_for_line("djq.worker.ready", within=30)
        return command

    with settings.override(**given):
        yield start


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


def body_of(ledger: Ledger) -> Any:
    """Return a body that leaves a line each time it runs."""
    return tasks.record.si(str(ledger.path)).set(task_id="body")


def test_a_part_that_kills_its_child_is_tried_again_and_the_body_runs_once(
    start: Start, ledger: Ledger
) -> None:
    start()
    header = [tasks.add.s(1, 1), tasks.die.s(str(ledger.path)), tasks.add.s(2, 2)]
    result = chord(header, body_of(ledger)).delay()
    assert result.get(timeout=WAIT) == "recorded"
    assert result.parent.get(timeout=WAIT) == [2, 2, 4]
    assert ledger.ids(STARTED).count("body") == 1


def test_a_part_that_cannot_be_tried_again_fails_the_body(start: Start, ledger: Ledger) -> None:
    start()
    lost = tasks.leave.si(1).set(queue="default")
    early = chord([tasks.add.s(1, 1), tasks.leave_early.si(1)], body_of(ledger)).delay()
    with pytest.raises(ChordError, match=r"Dependency .* raised WorkerLostError"):
        early.get(timeout=WAIT, follow_parents=False)
    limited = chord([tasks.add.s(1, 1), tasks.nap.si(30).set(time_limit=1)], tasks.add.si(1, 1)).delay()
    with pytest.raises(ChordError, match=r"Dependency .* raised TimeLimitExceeded"):
        limited.get(timeout=WAIT, follow_parents=False)
    unknown = chord([tasks.add.s(1, 1), lost.clone().set(task_id="u")], tasks.add.si(1, 1))
    unknown.tasks[1]["task"] = "nobody.declares.this"
    with pytest.raises(ChordError, match=r"Dependency u raised NotRegistered"):
        unknown.delay().get(timeout=WAIT, follow_parents=False)
    expired = chord(
        [tasks.add.s(1, 1), tasks.add.s(1, 1).set(expires="2020-01-01T00:00:00+00:00")], tasks.add.si(1, 1)
    ).delay()
    with pytest.raises(ChordError, match=r"Dependency .* raised TaskRevokedError"):
        expired.get(timeout=WAIT, follow_parents=False)
    assert "body" not in ledger.ids(STARTED)


def test_a_worker_killed_while_a_part_runs_leaves_the_chord_to_another(
    start: Start, ledger: Ledger, tmp_path: Path
) -> None:
    first = start("one")
    go_on = tmp_path / "go on"
    header = [*(tasks.add.s(number, 1) for number in range(10)), tasks.wait_for_file.s(str(go_on))]
    result = chord(header, body_of(ledger)).delay()
    wait_until(lambda: result.parent.completed_count() == 10, WAIT, "the quick parts to end")
    wait_until(lambda: result.parent[10].state == "STARTED", WAIT, "the slow part to start")
    os.killpg(first.pid, signal.SIGKILL)
    start("two")
    go_on.touch()
    assert result.get(timeout=WAIT) == "recorded"
    assert ledger.ids(STARTED).count("body") == 1


def test_workers_killed_again_and_again_lose_no_chord_and_run_no_body_twice(
    start: Start, ledger: Ledger
) -> None:
    path = str(ledger.path)
    start("steady")
    flows = [
        chord(
            [tasks.record.si(path, 0.02) for _ in range(10)],
            tasks.record.si(path, 0.01).set(task_id=f"body-{number}"),
        )
        for number in range(12)
    ]
    results = [flow.delay() for flow in flows]
    for turn in range(3):
        before = len(ledger.ids(ENDED))
        victim = start(f"victim{turn}")
        wait_until(
            lambda before=before: len(ledger.ids(ENDED)) > before + 12 or all(one.ready() for one in results),
            WAIT,
            "some tasks to end",
        )
        os.killpg(victim.pid, signal.SIGKILL)
    for result in results:
        assert result.get(timeout=WAIT) == "recorded"
    runs = [ledger.ids(STARTED).count(f"body-{number}") for number in range(12)]
    # A body that was running when its worker was killed starts again; none is sent twice.
    assert all(1 <= count <= 2 for count in runs)
    ends = [ledger.ids(ENDED).count(f"body-{number}") for number in range(12)]
    assert max(ends) <= 2
    assert sum(ends) <= 12 + 3


def test_a_workflow_whose_every_step_kills_its_child_once_comes_to_its_end(
    start: Start, ledger: Ledger
) -> None:
    start()
    path = str(ledger.path)
    flow = chain(
        tasks.die.si(path),
        group(tasks.die.si(path), tasks.die.si(path) | tasks.add.s(10)),
        tasks.total.s(),
        group(tasks.add.s(1), tasks.die.si(path)),
        tasks.total.s(),
    )
    assert flow.delay().get(timeout=WAIT) == 17
