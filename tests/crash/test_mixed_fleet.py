"""Stock Celery and djqueue on one queue while workers are killed and frozen: nothing is lost.

A stock client sends; one stock worker and two of djqueue share the queue. Ours are killed with SIGKILL and
stopped for longer than a lease, again and again; the ledger says what was run, and how often. Over Redis, and
over RabbitMQ.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import kombu.pools
import pytest
import redis
from celery import Celery

from tests.support import ledger as ledgers
from tests.support.fleet import Fleet, at_sea
from tests.support.ledger import Ledger, check
from tests.support.processes import Command
from tests.support.servers import Server
from tests.support.waiting import wait_until
from tests.wire import stock

pytestmark = [pytest.mark.wire, pytest.mark.crash]

QUEUE = "shared"
#: seconds; short, so that a dead or frozen worker's tasks are taken over soon
LEASE = 2.0
#: children of each worker: as many tasks may be cut short by one fault
CHILDREN = 2
WAIT = 40.0


@pytest.fixture
def fleet(redis_server: Server, django_db_setup: None, tmp_path: Path) -> Iterator[Fleet]:
    with at_sea(redis_server.url, tmp_path) as ready:
        yield ready


@pytest.fixture
def producer(fleet: Fleet) -> Iterator[Celery]:
    made = stock.client(fleet.url)
    yield made
    kombu.pools.reset()
    made.close()


def ours(fleet: Fleet, name: str) -> Command:
    options = {"lease": LEASE}
    return fleet.djqueue(queue=QUEUE, name=name, BROKER_TRANSPORT_OPTIONS=options)


def send(producer: Celery, ledger: Ledger, count: int, seconds: float) -> None:
    """Send recording tasks as a stock client does."""
    for _ in range(count):
        result = producer.send_task(f"{stock.NAMES}record", (str(ledger.path), seconds), queue=QUEUE)
        ledger.note(ledgers.ACCEPTED, result.id)


def ends(ledger: Ledger) -> set[str]:
    return set(ledger.ids(ledgers.ENDED))


@pytest.mark.timeout(120)
def test_a_mixed_fleet_loses_nothing_when_workers_are_killed_and_frozen(
    fleet: Fleet, producer: Celery, tmp_path: Path
) -> None:
    ledger = Ledger(tmp_path / "ledger")
    kills, freezes, portion = 4, 2, 150
    fleet.celery(queue=QUEUE)
    workers = {name: ours(fleet, name) for name in ("one", "two")}
    names = itertools.cycle(workers)
    sent = 0
    for fault in range(kills + freezes):
        send(producer, ledger, portion, 0.02)
        sent += portion
        wait_until(lambda sent=sent: len(ends(ledger)) >= sent - portion // 2, WAIT, "some tasks to end")
        ledger.note(ledgers.FAULT)
        name = next(names)
        if fault % 3 == 2:
            workers[name].stop()
            frozen = workers[name]
            wait_until(lambda frozen=frozen: has_lost_its_lease(fleet, frozen), WAIT, "its lease to end")
            frozen.cont()
        else:
            workers[name].kill()
            workers[name] = ours(fleet, name)
    wait_until(lambda: len(ends(ledger)) >= sent, WAIT, f"all {sent} tasks to end; {len(ends(ledger))} did")
    assert_drained(fleet)
    findings = check(ledger)
    assert findings.accepted == sent
    assert findings.lost == []
    assert findings.unexpected == []
    assert findings.duplicates <= CHILDREN * (kills + freezes)
    assert hosts_of(fleet, ends(ledger)) == {"stock", "one", "two"}, "all three took part"


@pytest.mark.timeout(120)
@pytest.mark.django_db(transaction=True)  # our workers on RabbitMQ look for revocations there
def test_a_mixed_fleet_on_rabbitmq_loses_nothing_when_ours_are_killed(
    redis_server: Server, amqp_server: Server, tmp_path: Path
) -> None:
    ledger = Ledger(tmp_path / "ledger")
    kills, portion = 3, 100
    with at_sea(redis_server.url, tmp_path, amqp_server.vhost("mixed")) as fleet:
        producer = stock.client(fleet.broker, **fleet.stock_settings)
        fleet.celery(queue=QUEUE)
        workers = {name: fleet.djqueue(queue=QUEUE, name=name) for name in ("one", "two")}
        for sent, name in zip(range(portion, (kills + 1) * portion, portion), itertools.cycle(workers)):
            send(producer, ledger, portion, 0.02)
            wait_until(lambda sent=sent: len(ends(ledger)) >= sent - portion // 2, WAIT, "some tasks to end")
            ledger.note(ledgers.FAULT)
            workers[name].kill()
            workers[name] = fleet.djqueue(queue=QUEUE, name=name)
        wait_until(lambda: len(ends(ledger)) >= kills * portion, WAIT, "all tasks to end")
        kombu.pools.reset()
        producer.close()
        findings = check(ledger)
        assert (findings.accepted, findings.lost, findings.unexpected) == (kills * portion, [], [])
        assert findings.duplicates <= CHILDREN * kills
        assert hosts_of(fleet, ends(ledger)) == {"stock", "one", "two"}, "all three took part"


def consumers_of(server: redis.Redis, worker: Command) -> set[bytes]:
    """Return the consumer ids of a worker's process."""
    nodes = {key: server.hget(key, "pid") for key in server.keys("djq:node:*")}
    return {key.removeprefix(b"djq:node:") for key, pid in nodes.items() if pid == str(worker.pid).encode()}


def has_lost_its_lease(fleet: Fleet, worker: Command) -> bool:
    """Tell whether the others have declared the worker dead."""
    with redis.Redis.from_url(fleet.url) as server:
        return not consumers_of(server, worker).intersection(server.zrange("djq:leases", 0, -1))


def assert_drained(fleet: Fleet) -> None:
    """Wait until nothing waits, runs or is delayed any more."""
    with redis.Redis.from_url(fleet.url) as server:
        wait_until(lambda: server.hlen("unacked") == 0, WAIT, "everything to be settled")
        assert server.llen(QUEUE) == 0
        assert server.exists("djq:dead") == 0


def hosts_of(fleet: Fleet, task_ids: set[str]) -> set[str]:
    """Return the first parts of the names of the workers that ran these tasks."""
    with redis.Redis.from_url(fleet.url) as server:
        found = server.mget([f"celery-task-meta-{task_id}" for task_id in task_ids])
    return {json.loads(document)["worker"].partition("@")[0] for document in found}
