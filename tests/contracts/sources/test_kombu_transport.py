"""kombu and stock Celery on the broker's own tables, both ways.

kombu publishes and the broker's source receives, and the other way round; queues of readers that live only as
long as their connection are made, used and cleared away, also when the reader is killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import celery
import pytest
from django.db import connections, transaction
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.messaging import Consumer, Producer
from kombu.pidbox import Mailbox

from djqueue.core.calls import Call, Plan
from djqueue.exceptions import OperationalError
from djqueue.messaging import brokers, publisher
from djqueue.models import Binding, DeadLetter, Message
from tests.contracts.sources.conftest import ENVIRONMENT, KINDS, Bench, ids
from tests.support.processes import ROOT
from tests.support.waiting import wait_until

URL = "django://default"
TASKS = Queue("default", Exchange("default", "direct"), routing_key="default")
EVENTS = Exchange("celeryev", "topic")


@pytest.fixture
def bench(transactional_db: None) -> Iterator[Bench]:
    bench = Bench(KINDS["sqlite"], brokers.broker(URL))
    yield bench
    bench.close()


@pytest.fixture
def connection(bench: Bench) -> Iterator[Any]:
    with Connection(URL) as connection:
        yield connection


def events_queue(name: str) -> Queue:
    """Return a queue as readers of events declare it."""
    return Queue(
        name,
        EVENTS,
        routing_key="task.#",
        auto_delete=True,
        durable=False,
        queue_arguments={"x-message-ttl": 5000},
    )


def test_what_kombu_publishes_the_source_receives(bench: Bench, connection: Any) -> None:
    Producer(connection).publish(
        {"x": [1, 2]},
        exchange=TASKS.exchange,
        routing_key="default",
        declare=[TASKS],
        headers={"id": "a", "task": "tests.add", "odd": {"ä": None}},
        correlation_id="a",
        priority=3,
        delivery_mode=2,
    )
    (delivery,) = bench.source().receive(1)
    assert delivery.message.headers == {"id": "a", "task": "tests.add", "odd": {"ä": None}}
    assert delivery.message.properties == {"correlation_id": "a", "priority": 3, "delivery_mode": 2}
    assert json.loads(delivery.message.body) == {"x": [1, 2]}
    assert (delivery.message.content_type, delivery.message.content_encoding) == ("application/json", "utf-8")
    assert (delivery.exchange, delivery.routing_key, delivery.queue) == ("default", "default", "default")


def test_what_the_broker_sends_kombu_consumes(bench: Bench, connection: Any) -> None:
    bench.send("a", body=b"[[1], {}, {}]", odd="header", priority=2)
    message = TASKS.bind(connection.default_channel).get()
    assert message.headers == {"task": "tests.add", "id": "a", "odd": "header"}
    assert message.payload == [[1], {}, {}]
    assert message.properties["correlation_id"] == "a"
    assert message.delivery_info["routing_key"] == "default"
    assert bench.broker.size("default") == 0
    message.ack()
    assert not Message.objects.exists()


def test_binary_bodies_and_priorities_go_both_ways(bench: Bench, connection: Any) -> None:
    body = bytes(range(256))
    producer = Producer(connection)
    for priority in (9, 0, 4):
        producer.publish(
            body,
            routing_key="default",
            content_type="application/data",
            content_encoding="binary",
            priority=priority,
        )
    queue = TASKS.bind(connection.default_channel)
    messages = [queue.get() for _ in range(3)]
    assert [one.properties["priority"] for one in messages] == [0, 4, 9]
    assert {one.body for one in messages} == {body}


def test_what_kombu_rejects_is_put_back_or_buried(bench: Bench, connection: Any) -> None:
    bench.send("a", "b")
    queue = TASKS.bind(connection.default_channel)
    first, second = queue.get(), queue.get()
    first.requeue()
    second.reject()
    assert ids(bench.source().receive(10)) == ["a"]
    assert list(DeadLetter.objects.values_list("task_id", "reason")) == [("b", "rejected")]


def test_what_kombu_did_not_answer_comes_back_when_it_leaves(bench: Bench) -> None:
    bench.send("a", "b")
    with Connection(URL) as connection:
        queue = TASKS.bind(connection.default_channel)
        queue.get()
        queue.get(no_ack=True)
        assert bench.broker.size("default") == 0
    (again,) = bench.source().receive(10)
    assert (ids([again]), again.redelivered) == (["a"], True)


def test_kombu_publishes_inside_the_callers_transaction(bench: Bench, connection: Any) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Producer(connection).publish({}, routing_key="default")
        assert bench.broker.size("default") == 1
        raise ZeroDivisionError
    assert bench.broker.size("default") == 0


def test_kombu_counts_purges_and_deletes(bench: Bench, connection: Any) -> None:
    bench.send("a", "b", "c")
    queue = TASKS.bind(connection.default_channel)
    assert queue.queue_declare(passive=True).message_count == 3
    assert queue.purge() == 3
    queue.declare()
    assert Binding.objects.filter(queue="default").count() == 1
    queue.delete()
    assert not Binding.objects.exists()
    with pytest.raises(connection.channel_errors):
        Queue("nowhere").bind(connection.default_channel).queue_declare(passive=True)


def test_a_consumer_is_woken(bench: Bench, connection: Any) -> None:
    received: list[Any] = []
    with Consumer(
        connection, [TASKS], callbacks=[lambda body, message: received.append((body, message.ack()))]
    ):
        bench.send_later("a")
        asleep_at = time.monotonic()
        connection.drain_events(timeout=5)
        assert time.monotonic() - asleep_at < 0.9
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.05)
    assert [body for body, _ in received] == [[[], {}, {}]]
    assert not Message.objects.exists()


def test_a_message_that_is_not_due_is_not_consumed_yet(bench: Bench, connection: Any) -> None:
    bench.send("a", due=time.time() + 0.2)
    queue = TASKS.bind(connection.default_channel)
    assert queue.get() is None
    assert wait_until(queue.get, within=5, because="for the message to be due").headers["id"] == "a"


def test_what_cannot_be_read_is_buried(bench: Bench, connection: Any) -> None:
    bench.send("a")
    Message.objects.update(headers="[")
    assert TASKS.bind(connection.default_channel).get() is None
    assert DeadLetter.objects.get().reason == "undecodable"


def test_a_task_that_would_reach_no_queue_is_refused(bench: Bench, connection: Any) -> None:
    publish = Producer(connection, exchange=Exchange("nobody", "direct")).publish
    publish({}, routing_key="x")  # an event or a reply to somebody who is gone: dropped, as AMQP does
    with pytest.raises(OperationalError, match="No queue is bound to the exchange 'nobody'"):
        publish({}, routing_key="x", headers={"task": "tests.add"})


def test_the_broker_follows_bindings_that_kombu_declared(bench: Bench, connection: Any) -> None:
    channel = connection.default_channel
    Queue("mails", Exchange("topics", "topic"), routing_key="mail.*").bind(channel).declare()
    Queue("all", Exchange("topics", "topic"), routing_key="#").bind(channel).declare()
    plan = Plan("tests.add", exchange="topics", routing_key="mail.urgent")
    publisher.send(Call(plan, "a"))
    publisher.send(Call(plan, "b", routing_key="mail.very.urgent"))
    assert ids(bench.source("mails").receive(10)) == ["a"]
    assert ids(bench.source("all").receive(10)) == ["a", "b"]
    with pytest.raises(OperationalError, match="No queue is bound to the exchange 'nobody'"):
        publisher.send(Call(plan, "c", exchange="nobody"))


# Readers that live as long as their connection


def test_fanout_and_topics_reach_every_living_reader_and_nobody_else(bench: Bench, connection: Any) -> None:
    producer = Producer(connection, exchange=EVENTS)
    producer.publish({"type": "unheard"}, routing_key="task.sent")
    assert not Message.objects.exists()
    with Connection(URL) as one, Connection(URL) as two:
        heard: list[tuple[int, str]] = []
        consumers = [
            Consumer(
                reader,
                [events_queue(f"celeryev.{number}")],
                no_ack=True,
                callbacks=[lambda body, message, number=number: heard.append((number, body["type"]))],
            )
            for number, reader in enumerate((one, two))
        ]
        for consumer in consumers:
            consumer.consume()
        producer.publish({"type": "a"}, routing_key="task.sent")
        producer.publish({"type": "b"}, routing_key="worker.online")
        for reader in (one, two):
            reader.drain_events(timeout=1)
            with pytest.raises(TimeoutError):
                reader.drain_events(timeout=0.01)
        assert heard == [(0, "a"), (1, "a")]
        producer.publish({"type": "unread"}, routing_key="task.sent")
        assert Message.objects.count() == 2
    assert not Message.objects.exists()
    assert not Binding.objects.exclude(subscriber="").exists()
    producer.publish({"type": "late"}, routing_key="task.sent")
    assert not Message.objects.exists()


def test_messages_that_nobody_reads_in_time_go(bench: Bench, connection: Any) -> None:
    queue = events_queue("celeryev.slow")
    queue.bind(connection.default_channel).declare()
    producer = Producer(connection, exchange=EVENTS)
    producer.publish({"type": "old"}, routing_key="task.sent")
    Message.objects.update(created="2001-01-01T00:00:00Z")
    producer.channel._next_sweep = 0.0
    producer.publish({"type": "new"}, routing_key="task.sent")
    assert [json.loads(bytes(one.body))["type"] for one in Message.objects.all()] == ["new"]


@pytest.mark.parametrize("by", ["the next publisher", "a worker"])
def test_the_queues_of_a_killed_reader_go(bench: Bench, connection: Any, by: str) -> None:
    code = (
        "import django, signal, sys; django.setup()\n"
        "from kombu import Connection, Exchange, Queue\n"
        "import djqueue.messaging.brokers\n"
        "channel = Connection('django://default').channel()\n"
        "queue = Queue('celeryev.dead', Exchange('celeryev', 'topic'), routing_key='#', auto_delete=True)\n"
        "queue.bind(channel).declare()\n"
        "sys.stdout.write('declared\\n'); sys.stdout.flush(); signal.pause()\n"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert reader.stdout is not None
    with reader.stdout:
        assert reader.stdout.readline() == "declared\n"
    producer = Producer(connection, exchange=EVENTS)
    producer.publish({"type": "heard"}, routing_key="task.sent")
    assert Message.objects.count() == 1
    os.kill(reader.pid, signal.SIGKILL)
    reader.wait()
    if by == "a worker":
        bench.source()
    else:
        producer.publish({"type": "unheard"}, routing_key="task.sent")
    assert not Message.objects.exists()
    assert not Binding.objects.filter(queue="celeryev.dead").exists()


def test_remote_control_goes_to_every_node_and_answers_come_back(bench: Bench) -> None:
    mailbox = Mailbox("celery", type="fanout")
    stopped = threading.Event()
    listening = threading.Barrier(3, timeout=10)

    def node(name: str) -> None:
        with Connection(URL) as connection:
            box = mailbox(connection).Node(name, handlers={"ping": lambda state: {"ok": "pong"}})
            with box.listen(channel=connection.channel()):
                listening.wait()
                while not stopped.is_set():
                    with suppress(TimeoutError):
                        connection.drain_events(timeout=0.2)
        connections.close_all()

    threads = [threading.Thread(target=node, args=[name]) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    listening.wait()
    try:
        with Connection(URL) as connection:
            replies = mailbox(connection)._broadcast("ping", reply=True, timeout=5, limit=2)
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    assert sorted(map(str, replies)) == ["{'one': {'ok': 'pong'}}", "{'two': {'ok': 'pong'}}"]


def test_a_stock_celery_client_sends_to_the_broker(bench: Bench) -> None:
    app = celery.Celery(broker=URL, set_as_current=False)
    app.conf.task_default_queue = "default"
    result = app.send_task("tests.add", [1, 2], countdown=60, headers={"tenant": "acme"}, priority=1)
    (delivery,) = bench.source().receive(1)
    headers = delivery.message.headers
    assert (headers["id"], headers["task"], headers["tenant"]) == (result.id, "tests.add", "acme")
    assert headers["eta"] is not None
    assert json.loads(delivery.message.body)[0] == [1, 2]
    assert Message.objects.get().priority == 1
    app.close()


def test_the_alias_keeps_its_capitals(bench: Bench) -> None:
    connections.databases["Broker"] = connections.databases["default"]
    try:
        with Connection("django://Broker") as connection:
            assert connection.transport.broker.alias == "Broker"
            assert connection.as_uri() == "django://Broker"
    finally:
        connections.databases.pop("Broker")
