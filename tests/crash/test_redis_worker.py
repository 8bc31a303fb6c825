"""Kill workers, freeze them, kill and freeze the server, under load on Redis: nothing is lost.

Tasks and producer write to a ledger past everything under test; the checker compares what was accepted with
what ran, and the server is looked through for what is left over. Delivery promises W01, W03, W05 to W07, W14,
R01, R02, R05 and M33 on the Redis broker.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from djqueue.conf import settings
from djqueue.exceptions import WorkerLostError
from djqueue.messaging import brokers
from tests.project import tasks
from tests.support import ledger as ledgers
from tests.support import proctree
from tests.support.ledger import Ledger, check
from tests.support.processes import Command, Processes
from tests.support.servers import Server, provide
from tests.support.site import WAIT, Site
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.crash, pytest.mark.timeout(180)]


class RedisSite(Site):
    """A project on Redis, and what is in the server."""

    def __init__(self, processes: Processes, server: Server, ledger: Ledger, lease: float) -> None:
        options = {"lease": lease}
        super().__init__(
            processes,
            ledger,
            {"BROKER_URL": server.url, "RESULT_BACKEND": server.url, "BROKER_TRANSPORT_OPTIONS": options},
        )
        self.server = server
        self.client: Any = redis.Redis.from_url(server.url, decode_responses=True)

    def wait_until_drained(self) -> None:
        def drained() -> bool:
            return brokers.broker().size("default") == 0 and self.client.hlen("unacked") == 0

        wait_until(drained, WAIT, "the queue to be empty and nothing to be held")

    def leftovers(self) -> set[str]:
        """Return the keys that should be gone when nobody works and nothing waits."""
        kept = ("djq:node:", "djq:sender:", "djq:projects", "djq:dead", "_kombu.", "celery-task-meta-")
        return {key for key in self.client.keys("*") if not key.startswith(kept)}


@pytest.fixture
def server() -> Iterator[Server]:
    made = provide("redis")
    with redis.Redis.from_url(made.url) as client:
        client.flushdb()
    yield made
    made.close()


@pytest.fixture
def site(processes: Processes, server: Server, tmp_path: Path) -> Iterator[RedisSite]:
    made = RedisSite(processes, server, Ledger(tmp_path / "ledger"), lease=3.0)
    with settings.override(**made.settings):
        yield made
    made.client.close()


def grandchildren(worker: Command) -> list[int]:
    """The children that run tasks: below the nursery."""
    return [pid for nursery in worker.children() for pid in proctree.children(nursery)]


def test_killed_children_lose_nothing_under_load(site: RedisSite) -> None:
    kills = 5
    site.send(300, 0.01)
    worker = site.worker()
    for kill in range(kills):
        site.wait_for_ends(40 * (kill + 1))
        site.ledger.note(ledgers.FAULT)
        os.kill(grandchildren(worker)[0], signal.SIGKILL)
    site.wait_for_ends(300)
    site.wait_until_drained()
    assert worker.terminate() == 0
    findings = check(site.ledger)
    assert (findings.lost, findings.unexpected) == ([], [])
    assert findings.duplicates <= kills
    assert site.leftovers() == set()


def test_killed_workers_lose_nothing_under_load(site: RedisSite) -> None:
    kills = 4
    site.send(400, 0.01)
    worker = site.worker()
    for kill in range(kills):
        site.wait_for_ends(60 * (kill + 1))
        site.ledger.note(ledgers.FAULT)
        worker.kill()
        worker = site.worker()
    site.wait_for_ends(400)
    site.wait_until_drained()
    assert worker.terminate() == 0
    findings = check(site.ledger)
    assert (findings.lost, findings.unexpected) == ([], [])
    assert findings.duplicates <= 2 * kills  # two children are interrupted by each kill
    assert site.client.hlen("djq:dead") == 0
    assert site.leftovers() == set()


def test_another_worker_on_the_machine_takes_over_within_two_seconds(site: RedisSite) -> None:
    doomed = site.worker("doomed")
    result = tasks.die_with_worker.delay(str(site.ledger.path), doomed.pid)
    wait_until(lambda: site.ledger.ids(ledgers.STARTED), WAIT, "the task to start")
    site.worker("heir")
    doomed.kill()
    killed_at = time.monotonic()
    wait_until(lambda: len(site.ledger.ids(ledgers.STARTED)) == 2, WAIT, "it to start again")
    assert time.monotonic() - killed_at < 2.0
    assert result.get(timeout=WAIT) == 2


def test_a_frozen_worker_is_taken_over_and_does_no_harm_when_it_thaws(site: RedisSite) -> None:
    frozen = site.worker("frozen")
    site.send(2, 2.0)
    wait_until(lambda: len(site.ledger.ids(ledgers.STARTED)) == 2, WAIT, "both children to be busy")
    site.send(20, 0.01)
    frozen.stop()
    heir = site.worker("heir")
    site.wait_for_ends(22)
    frozen.cont()
    site.send(50, 0.01)
    site.wait_for_ends(72)
    site.wait_until_drained()
    findings = check(site.ledger)
    assert (findings.lost, findings.unexpected) == ([], [])
    assert findings.duplicates <= 2
    frozen.wait_for_line(r"djq\.lease\.lost held=\d+")
    frozen.wait_for_line(r"djq\.lost_lease")
    assert heir.terminate() == frozen.terminate() == 0
    assert site.leftovers() == set()


def test_a_task_that_outlives_many_leases_is_started_once(site: RedisSite) -> None:
    site.settings["BROKER_TRANSPORT_OPTIONS"] = {"lease": 1.0}
    worker, other = site.worker("one"), site.worker("two")
    site.send(2, 5.0)
    site.wait_for_ends(2)
    site.wait_until_drained()
    assert check(site.ledger).extra_starts == {}
    assert worker.terminate() == other.terminate() == 0


def test_a_task_that_always_kills_its_child_ends_as_a_dead_letter(site: RedisSite, tmp_path: Path) -> None:
    worker = site.worker()
    poison = tasks.die.delay(str(tmp_path / "poison"), 1_000)
    site.send(100, 0.01)
    with pytest.raises(WorkerLostError, match="given up"):
        poison.get(timeout=WAIT)
    assert len(Ledger(tmp_path / "poison").ids(ledgers.STARTED)) == 5
    site.wait_for_ends(100)
    site.wait_until_drained()
    assert site.client.hlen("djq:dead") == 1
    assert worker.terminate() == 0


def test_healthy_tasks_beside_killed_workers_are_never_buried(site: RedisSite) -> None:
    worker = site.worker()
    site.send(100, 0.02)
    for _ in range(6):  # one more than TASK_MAX_DELIVERIES
        site.wait_for_starts(len(site.ledger.ids(ledgers.STARTED)) + 3)
        worker.kill()
        worker = site.worker()
    site.wait_for_ends(100)
    assert site.client.hlen("djq:dead") == 0
    assert check(site.ledger).lost == []


# The server


def test_a_server_that_is_killed_and_started_again_costs_nothing(site: RedisSite) -> None:
    worker, other = site.worker("one"), site.worker("two")
    site.send(300, 0.01)
    for outage in range(2):
        site.wait_for_ends(60 * (outage + 1))
        site.ledger.note(ledgers.FAULT)
        site.server.restart()
    restarted_at = time.monotonic()
    ends = site.ends()
    wait_until(lambda: site.ends() > ends or site.ends() == 300, WAIT, "work to go on")
    assert time.monotonic() - restarted_at < 10
    site.send(50, 0.01)
    site.wait_for_ends(350)
    site.wait_until_drained()
    findings = check(site.ledger)
    assert (findings.lost, findings.unexpected) == ([], [])
    assert findings.duplicates == 0
    assert worker.terminate() == other.terminate() == 0
    assert site.leftovers() == set()


def test_a_server_that_freezes_for_longer_than_a_lease_costs_nothing(site: RedisSite) -> None:
    worker, other = site.worker("one"), site.worker("two")
    site.send(4, 4.0)
    wait_until(lambda: len(site.ledger.ids(ledgers.STARTED)) == 4, WAIT, "four tasks to run")
    site.server.stop()
    frozen_until = time.monotonic() + 8.0
    wait_until(lambda: time.monotonic() > frozen_until, 20, "for leases to end")
    site.server.cont()
    site.wait_for_ends(4)
    site.wait_until_drained()
    findings = check(site.ledger)
    assert (findings.lost, findings.extra_starts) == ([], {})
    assert worker.terminate() == other.terminate() == 0


def test_a_worker_ends_in_time_although_the_server_hangs(site: RedisSite) -> None:
    worker = site.worker()
    site.server.stop()
    try:
        asked_at = time.monotonic()
        worker.signal(signal.SIGTERM)
        assert worker.wait(within=30) == 0
        assert time.monotonic() - asked_at < 20
    finally:
        site.server.cont()


def test_connections_that_are_killed_again_and_again_cost_nothing(site: RedisSite) -> None:
    worker, other = site.worker("one"), site.worker("two")
    site.send(4, 3.0)
    wait_until(lambda: len(site.ledger.ids(ledgers.STARTED)) == 4, WAIT, "four tasks to run")
    chance = random.Random(3)
    for turn in range(60):
        site.client.client_kill_filter(_type="normal", skipme=True)
        site.send_one(0.01)
        site.wait_for_ends(max(turn - chance.randrange(5), 0))
    site.wait_for_ends(4 + 60)
    site.wait_until_drained()
    findings = check(site.ledger)
    assert (findings.lost, findings.unexpected, findings.extra_starts) == ([], [], {})
    assert worker.terminate() == other.terminate() == 0
    assert site.leftovers() == set()
