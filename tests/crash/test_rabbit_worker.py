"""Kill workers, cut and blind their connections, restart the node, under load on RabbitMQ: nothing is lost.

Tasks and producer write to a ledger past everything under test; the checker compares what was accepted with
what ran. Delivery promises Q01 to Q09, Q12 to Q14 and W01, W03 on RabbitMQ (Q10 and Q11 are in
contracts/amqp); X18 and X34 are the experiments that lose or double tasks elsewhere.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu.connection import Connection

from djqueue import app, enqueue_many
from djqueue.conf import settings
from djqueue.exceptions import OperationalError, Unroutable, WorkerLostError
from djqueue.messaging import brokers
from djqueue.models import DeadLetter
from tests.project import tasks
from tests.support import ledger as ledgers
from tests.support import proctree
from tests.support.ledger import Ledger, check
from tests.support.processes import Command, Processes
from tests.support.proxy import Proxy
from tests.support.servers import PrivateRabbit, Server
from tests.support.site import WAIT, Site
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.crash, pytest.mark.timeout(180)]

HEARTBEAT = 2.0


class RabbitSite(Site):
    """A project on RabbitMQ, with queues of one `kind`; `proxy` stands between it and the node."""

    def __init__(self, processes: Processes, server: Server, ledger: Ledger, kind: str) -> None:
        self.server = server
        self.url = server.vhost("crash")
        self.proxy = Proxy(self.url)
        settings = {
            "BROKER_URL": self.url,
            "BROKER_HEARTBEAT": HEARTBEAT,
            "BROKER_NATIVE_DELAYED_DELIVERY_QUEUE_TYPE": "classic",
            "TASK_DEFAULT_QUEUE_TYPE": kind,
        }
        super().__init__(processes, ledger, settings)

    def through_proxy(self) -> None:
        """Let whoever is started from now on connect through the proxy."""
        self.settings["BROKER_URL"] = self.proxy.url

    @property
    def node(self) -> PrivateRabbit:
        """The node, which is to be ours: others are not to be changed."""
        if not isinstance(self.server, PrivateRabbit):
            pytest.skip("a node that is not ours is not to be changed")
        return self.server

    def listed(self, *columns: str) -> list[list[str]]:
        """Return these columns of every queue."""
        told = self.node.control("list_queues", "-p", "crash", "--no-table-headers", *columns)
        return [line.split("\t") for line in told.splitlines()]

    def channels(self, *columns: str) -> list[list[str]]:
        """Return these columns of every channel of the site."""
        told = self.node.control("list_channels", "--no-table-headers", "vhost", *columns)
        lines = [line.split("\t") for line in told.splitlines()]
        return [rest for vhost, *rest in lines if vhost == "crash"]

    def waiting(self, queue: str = "default") -> int:
        """Return how many messages are ready or unacknowledged in queues whose names begin so."""
        counts = self.listed("name", "messages")
        return sum(int(number) for name, number in counts if name.startswith(queue))

    def wait_until_drained(self) -> None:
        """Wait until nothing is ready and nothing is held."""
        wait_until(lambda: self.waiting() == 0, WAIT, "for the queue to be empty and nothing to be held")


@pytest.fixture
def site(
    request: pytest.FixtureRequest, processes: Processes, amqp_server: Server, tmp_path: Path
) -> Iterator[RabbitSite]:
    kind = getattr(request, "param", "classic")
    made = RabbitSite(processes, amqp_server, Ledger(tmp_path / "ledger"), kind)
    with Connection(made.url) as connection:
        connection.default_channel.queue_delete("default")
    with settings.override(**made.settings):
        yield made
        brokers.reset()
    made.proxy.close()


of_both_kinds = pytest.mark.parametrize("site", ["classic", "quorum"], indirect=True)


def grandchildren(worker: Command) -> list[int]:
    """The children that run tasks: below the nursery."""
    return [pid for nursery in worker.children() for pid in proctree.children(nursery)]


@of_both_kinds
def test_killed_workers_and_children_lose_nothing_under_load(site: RabbitSite) -> None:
    kills = 4
    site.send(400, 0.01)
    worker = site.worker()
    for kill in range(kills):
        site.wait_for_ends(60 * (kill + 1))
        site.ledger.note(ledgers.FAULT)
        os.kill(grandchildren(worker)[0], signal.SIGKILL)
        site.wait_for_ends(60 * (kill + 1) + 20)
        worker.kill()
        worker = site.worker()
    site.wait_for_ends(400)
    site.wait_until_drained()
    assert worker.terminate() == 0
    findings = check(site.ledger)
    assert (findings.lost, findings.unexpected) == ([], [])
    assert findings.duplicates <= 3 * kills  # a child, then two children of a worker
    assert not DeadLetter.objects.exists()


def test_another_worker_takes_over_within_two_seconds_and_knows_of_the_start(site: RabbitSite) -> None:
    doomed = site.worker("doomed")
    result = tasks.die_with_worker.delay(str(site.ledger.path), doomed.pid)
    site.wait_for_starts(1)
    site.worker("heir")
    doomed.kill()
    killed_at = time.monotonic()
    site.wait_for_starts(2)
    assert time.monotonic() - killed_at < 2.0
    assert result.get(timeout=WAIT) == 2


def test_a_task_that_always_kills_its_child_ends_as_a_dead_letter(site: RabbitSite, tmp_path: Path) -> None:
    worker = site.worker()
    poison = tasks.die.delay(str(tmp_path / "poison"), 1_000)
    site.send(100, 0.01)
    with pytest.raises(WorkerLostError, match="given up"):
        poison.get(timeout=WAIT)
    assert len(Ledger(tmp_path / "poison").ids(ledgers.STARTED)) == 5
    site.wait_for_ends(100)
    site.wait_until_drained()
    assert [letter.reason for letter in DeadLetter.objects.all()] == ["max_deliveries"]
    assert worker.terminate() == 0


@of_both_kinds
def test_a_cut_connection_runs_nothing_twice(site: RabbitSite) -> None:
    """X34: the connection is cut while tasks run and when they end; the worker adopts what comes back."""
    site.through_proxy()
    worker = site.worker()
    site.send(40, 0.2)
    for cut in range(4):
        site.wait_for_starts(8 * (cut + 1))
        site.proxy.cut()
    site.proxy.cut(refuse=True)  # these end while nobody can be told
    starts = site.starts()
    wait_until(lambda: site.ends() >= starts, WAIT, "for what runs to end")
    site.proxy.heal()
    site.wait_for_ends(40)
    site.wait_until_drained()
    findings = check(site.ledger)
    assert (findings.lost, findings.unexpected, findings.extra_starts) == ([], [], {})
    worker.wait_for_line("djq.broker.restored")
    assert worker.terminate() == 0


def test_a_connection_that_goes_blind_is_noticed_by_both_sides(site: RabbitSite) -> None:
    """X33: bytes vanish, nothing is closed; another worker has the tasks within three heartbeats."""
    site.through_proxy()
    blind = site.worker("blind")
    site.send(2, 1.0)
    site.wait_for_starts(2)
    site.send(10, 0.01)
    site.settings["BROKER_URL"] = site.url
    heir = site.worker("heir")
    site.proxy.hole()
    blinded_at = time.monotonic()
    site.wait_for_ends(12)
    site.wait_until_drained()
    assert time.monotonic() - blinded_at < 30
    blind.wait_for_line("djq.broker.lost")
    site.proxy.cut()
    site.proxy.heal()
    blind.wait_for_line("djq.broker.restored", within=30)
    findings = check(site.ledger)
    assert (findings.lost, findings.unexpected) == ([], [])
    assert findings.duplicates <= 2
    assert heir.terminate() == blind.terminate() == 0


def test_no_accepted_task_is_lost_when_the_producers_connection_fails_again_and_again(
    site: RabbitSite,
) -> None:
    """X18: holes and cuts while sending; every fourth message elsewhere is lost there."""
    with settings.override(BROKER_URL=site.proxy.url, TASK_PUBLISH_RETRY_POLICY={"timeout": 12.0}):
        for number in range(60):
            if number % 20 == 5:
                site.proxy.hole()
            if number % 20 == 7:
                site.proxy.cut()
                site.proxy.heal()
            if number % 20 == 15:
                site.proxy.cut()
            began_at = time.monotonic()
            site.send_one(0.0)
            assert time.monotonic() - began_at < 15
        brokers.reset()
    worker = site.worker()
    site.wait_until_drained()
    findings = check(site.ledger)
    assert findings.lost == []
    assert findings.accepted >= 50
    assert worker.terminate() == 0


@of_both_kinds
def test_a_node_that_is_killed_and_started_again_loses_nothing(site: RabbitSite) -> None:
    worker = site.worker()
    if site.settings["TASK_DEFAULT_QUEUE_TYPE"] == "quorum":
        # RabbitMQ 3.10 writes down only now and then which of them it has.
        site.node.control("stop_app")
        site.node.control("start_app")
    site.send(200, 0.02)
    site.wait_for_ends(40)
    site.server.restart()
    restarted_at = time.monotonic()
    ends = site.ends()
    wait_until(lambda: site.ends() > ends, WAIT, "for work to go on")
    assert time.monotonic() - restarted_at < 15
    site.send(20, 0.01)
    site.wait_for_ends(220)
    site.wait_until_drained()
    findings = check(site.ledger)
    assert (findings.lost, findings.unexpected) == ([], [])
    assert findings.duplicates == 0
    assert worker.terminate() == 0


def test_a_frozen_node_holds_nobody_up_for_ever(site: RabbitSite) -> None:
    worker, other = site.worker("one"), site.worker("two")
    tasks.add.delay(1, 1).get(timeout=WAIT)
    site.server.stop()
    try:
        began_at = time.monotonic()
        with pytest.raises(OperationalError):
            tasks.add.delay(2, 2)
        assert time.monotonic() - began_at < 12
        asked_at = time.monotonic()
        other.signal(signal.SIGTERM)
        assert other.wait(within=40) == 0
        assert time.monotonic() - asked_at < 30
    finally:
        site.server.cont()
    assert tasks.add.delay(3, 3).get(timeout=WAIT) == 6
    assert worker.terminate() == 0


def test_an_alarm_makes_sending_fail_in_time_and_lets_workers_go_on(site: RabbitSite) -> None:
    server = site.node
    worker = site.worker()
    site.send(30, 0.05)
    site.wait_for_ends(2)
    server.control("set_vm_memory_high_watermark", "0.00001")
    try:
        began_at = time.monotonic()
        with pytest.raises(OperationalError, match="short of memory or disk"):
            for _ in range(3):  # the first may be on its way before the alarm is told
                tasks.record.delay(str(site.ledger.path), 0.0)
        assert time.monotonic() - began_at < 25
        site.wait_for_ends(30)
    finally:
        server.control("set_vm_memory_high_watermark", "0.4")
    assert tasks.add.delay(2, 2).get(timeout=WAIT) == 4
    assert worker.terminate() == 0


def test_a_deleted_queue_is_made_again_by_producers_and_workers(site: RabbitSite) -> None:
    worker = site.worker()
    assert tasks.add.delay(1, 1).get(timeout=WAIT) == 2
    for _ in range(2):
        with Connection(site.url) as connection:
            connection.default_channel.queue_delete("default")
        assert tasks.add.delay(2, 2).get(timeout=WAIT) == 4
    assert worker.exit_status is None
    with pytest.raises(Unroutable, match="nowhere"):
        tasks.add.apply_async((1, 1), exchange="amq.direct", routing_key="nowhere")
    with pytest.raises(Unroutable, match="no exchange"):
        tasks.add.apply_async((1, 1), exchange="none.such", routing_key="nowhere")
    assert worker.terminate() == 0


def test_messages_with_an_eta_wait_in_rabbitmq_and_survive_the_worker(site: RabbitSite) -> None:
    worker = site.worker()
    due = time.time() + 4.0
    for _ in range(20):
        site.send_one(0.0, countdown=4.0)
    assert site.waiting() == 0  # neither ready nor in any worker's hands
    worker.kill()
    site.worker("heir")
    site.wait_for_ends(20)
    findings = check(site.ledger)
    assert (findings.lost, findings.extra_starts) == ([], {})
    first = min(entry.moment for entry in site.ledger.entries() if entry.event == ledgers.STARTED)
    assert time.time() - (time.monotonic() - first) >= due - 0.05


def test_ten_thousand_tasks_for_later_cost_a_worker_nothing(site: RabbitSite) -> None:
    worker = site.worker()
    assert tasks.add.delay(1, 1).get(timeout=WAIT) == 2
    before = resident(worker.pid)
    try:
        enqueue_many([tasks.add.s(number, 1).set(countdown=3600) for number in range(10_000)])
        asked_at = time.monotonic()
        assert tasks.add.delay(2, 2).get(timeout=WAIT) == 4
        assert time.monotonic() - asked_at < 2.0
        assert (site.waiting(), site.waiting("celery_delayed")) == (0, 10_000)
        assert resident(worker.pid) - before < 5.0
        assert worker.terminate() == 0
    finally:
        site.node.drop_vhost("crash")


def resident(pid: int) -> float:
    """Return the memory of a process, MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.parametrize("site", ["quorum"], indirect=True)
def test_on_a_quorum_queue_poison_is_a_dead_letter_after_five_starts(
    site: RabbitSite, tmp_path: Path
) -> None:
    """Also where RabbitMQ would drop what was given back five times, which tells nobody."""
    limit = ("limit", "^default$", '{"delivery-limit": 5}', "--apply-to", "queues")
    site.node.control("set_policy", "-p", "crash", *limit)
    try:
        worker = site.worker()
        poison = tasks.die.delay(str(tmp_path / "poison"), 1_000)
        site.send(50, 0.01)
        with pytest.raises(WorkerLostError, match="given up"):
            poison.get(timeout=WAIT)
        site.wait_for_ends(50)
        site.wait_until_drained()
        assert ["default", "quorum"] in site.listed("name", "type")
        assert len(Ledger(tmp_path / "poison").ids(ledgers.STARTED)) == 5
        assert [letter.reason for letter in DeadLetter.objects.all()] == ["max_deliveries"]
        assert check(site.ledger).extra_starts == {}
        assert worker.terminate() == 0
    finally:
        site.node.control("clear_policy", "-p", "crash", "limit")


def test_a_task_that_outlives_the_consumer_timeout_runs_once(site: RabbitSite) -> None:
    """RabbitMQ closes the channel again and again; the worker adopts the task and ends it."""
    patience = "application:set_env([{{rabbit, [{{consumer_timeout, {}}}, {{channel_tick_interval, {}}}]}}])."
    site.node.control("eval", patience.format(1_000, 500))
    try:
        worker = site.worker()
        site.send(1, 6.0)
        site.wait_for_starts(1)
        early = tasks.record_early.delay(str(site.ledger.path), 4.0)
        site.ledger.note(ledgers.ACCEPTED, early.id)
        worker.wait_for_line("djq.broker.lost.*timed out")
        site.wait_for_ends(2)
        site.send(20, 0.01)
        site.wait_for_ends(22)
        site.wait_until_drained()
        findings = check(site.ledger)
        assert (findings.lost, findings.unexpected, findings.extra_starts) == ([], [], {})
        assert worker.terminate() == 0
    finally:
        site.node.control("eval", patience.format(1_800_000, 60_000))


def test_connections_that_the_operator_closes_cost_nothing(site: RabbitSite) -> None:
    """The node says 320 and closes every connection: the worker's, those of control and events, senders'."""
    worker = site.worker("one", "-E")
    site.send(40, 0.2)
    for closing in range(3):
        site.wait_for_starts(10 * (closing + 1))
        site.node.control("close_all_connections", "--vhost", "crash", "maintenance")
    site.send(10, 0.01)
    site.wait_for_ends(50)
    site.wait_until_drained()
    findings = check(site.ledger)
    assert (findings.lost, findings.unexpected, findings.extra_starts) == ([], [], {})
    assert "maintenance" in worker.wait_for_line("djq.broker.lost.*").group()
    wait_until(lambda: app.control.ping(timeout=1), WAIT, "for remote control to be back")
    assert worker.terminate() == 0


#: how something that a worker needs is taken away, and how it is given back
TAKEN = {
    "its virtual host": (["delete_vhost", "crash"], ["add_vhost", "crash"]),
    "its permissions": (["clear_permissions", "-p", "crash", "guest"], []),
    "its password": (["change_password", "guest", "changed"], ["change_password", "guest", "guest"]),
}


@pytest.mark.parametrize("what", TAKEN)
def test_a_worker_waits_for_what_was_taken_away_from_it(site: RabbitSite, what: str) -> None:
    worker = site.worker("one", "-E")
    assert tasks.add.delay(1, 1).get(timeout=WAIT) == 2
    take, give = TAKEN[what]
    site.node.control(*take)
    try:
        site.node.control("close_all_connections", "--vhost", "crash", "maintenance")
        worker.wait_for_line("djq.broker.lost")
        with pytest.raises(OperationalError, match=r"refused|cannot be reached"):
            tasks.add.delay(2, 2)
        # The listener of remote control is away as well, and comes back by itself.
        worker.wait_for_line("djq.control.deaf")
    finally:
        if give:
            site.node.control(*give)
        site.node.control("set_permissions", "-p", "crash", "guest", ".*", ".*", ".*")
    worker.wait_for_line("djq.broker.restored", within=30)
    assert tasks.add.delay(3, 3).get(timeout=WAIT) == 6
    wait_until(lambda: app.control.ping(timeout=1), WAIT, "for remote control to be back")
    assert worker.terminate() == 0


def test_nothing_is_asked_for_that_rabbitmq_4_refuses(site: RabbitSite) -> None:
    """No transient queue that others may use, no prefetch for a whole channel: 4.3 denies both."""
    site.settings["RESULT_BACKEND"] = "rpc://"
    with settings.override(**site.settings):
        site.worker("one", "-E")
        watching = site.processes.start("djqueue", "events", "--timeout", "60", settings=site.settings)
        wait_until(
            lambda: any(name.startswith("celeryev") for (name,) in site.listed("name")), WAIT, "for a monitor"
        )
        assert tasks.add.delay(1, 1).get(timeout=WAIT) == 2
        assert tasks.add.apply_async((1, 2), countdown=1.5).get(timeout=WAIT) == 3
        asking = threading.Thread(target=app.control.ping, kwargs={"timeout": 5})
        asking.start()
        wait_until(lambda: any(".reply." in name for (name,) in site.listed("name")), WAIT, "for a client")
        queues = site.listed("name", "durable", "exclusive")
        asking.join()
    assert {name.split(".")[-1] for name, *_ in queues} >= {"default", "pidbox"}
    assert [name for name, durable, exclusive in queues if "true" not in (durable, exclusive)] == []
    assert {count for (count,) in site.channels("global_prefetch_count")} == {"0"}
    watching.terminate()


def test_a_busy_interpreter_does_not_cost_the_connection(site: RabbitSite) -> None:
    """A thread computes for many heartbeats: they are sent all the same."""
    worker = site.worker("one", "--pool", "threads")
    tasks.hog.delay(str(site.ledger.path), 6 * HEARTBEAT)
    site.wait_for_starts(1)
    assert tasks.add.delay(1, 1).get(timeout=WAIT) == 2
    site.wait_for_ends(1)
    site.wait_until_drained()
    assert "djq.broker.lost" not in worker.log()
    assert site.starts() == 1
    assert worker.terminate() == 0


def test_an_interpreter_that_stands_still_costs_the_connection_and_nothing_else(site: RabbitSite) -> None:
    """A library holds the interpreter's lock for many heartbeats: RabbitMQ gives the worker up."""
    worker = site.worker("one", "--pool", "threads")
    tasks.hog.delay(str(site.ledger.path), 6 * HEARTBEAT, in_c=True)
    site.wait_for_ends(1)
    worker.wait_for_line("djq.broker.lost")
    worker.wait_for_line("djq.broker.restored")
    site.wait_until_drained()
    assert tasks.add.delay(1, 1).get(timeout=WAIT) == 2
    assert site.starts() == 1
    assert worker.terminate() == 0
