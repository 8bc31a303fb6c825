"""What is RabbitMQ's own: declarations shared with Celery, priorities, fail-over, limits, odd messages.

Each test has a queue of its own in one virtual host; forks and threads send at the same time.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from kombu.connection import Connection
from kombu.entity import Queue

from djqueue import control
from djqueue.conf import settings
from djqueue.core.messages import Destination, Outgoing, WireMessage
from djqueue.exceptions import OperationalError, Unroutable
from djqueue.messaging import brokers, mailbox, questions
from djqueue.messaging.contract import Broker, Source
from djqueue.messaging.delivery import AlreadySettled
from djqueue.messaging.transports.amqp.broker import AmqpBroker
from djqueue.models import DeadLetter
from djqueue.worker.waiting import Waiting
from tests.support.proxy import Proxy
from tests.support.servers import PrivateRabbit, Server, free_port
from tests.support.waiting import wait_until

WAIT = 20.0


@pytest.fixture
def url(amqp_server: Server) -> str:
    return amqp_server.vhost("amqp")


@pytest.fixture
def queue(url: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """Give each test a queue of its own, which is deleted afterwards."""
    name = request.node.name[:60]
    yield name
    with Connection(url) as connection:
        connection.default_channel.queue_delete(name)


@pytest.fixture
def broker(url: str) -> Broker:
    return brokers.broker(url)


@pytest.fixture
def source(broker: Broker, queue: str, transactional_db: None) -> Iterator[Source]:
    waiting = Waiting()
    made = broker.source([queue], f"consumer-{os.getpid()}")
    made.open(waiting.watch, waiting.wake)
    yield made
    made.close()
    waiting.close()


def message(task_id: str, queue: str, body: bytes = b"[[], {}, {}]", **properties: Any) -> Outgoing:
    wire = WireMessage({"task": "t", "id": task_id}, {"correlation_id": task_id, **properties}, body)
    return Outgoing(wire, Destination("", queue, queue))


def received(source: Source, count: int) -> list[Any]:
    """Return so many deliveries."""
    found: list[Any] = []

    def has_all() -> bool:
        found.extend(source.receive(count - len(found)))
        return len(found) >= count

    wait_until(has_all, WAIT, f"for {count} messages")
    return found


@pytest.mark.parametrize("kind", ["classic", "quorum"])
@pytest.mark.parametrize("first", ["celery", "djqueue"])
def test_celery_and_djqueue_declare_the_same_whoever_comes_first(
    url: str, broker: Broker, queue: str, caplog: pytest.LogCaptureFixture, kind: str, first: str
) -> None:
    stock = Celery("stock", broker=url, set_as_current=False, fixups=[])
    stock.conf.update(task_default_queue=queue, task_default_queue_type=kind)

    def by_celery() -> None:
        with stock.connection_for_write() as connection:
            stock.amqp.queues[queue].bind(connection.default_channel).declare()

    with settings.override(TASK_DEFAULT_QUEUE=queue, TASK_DEFAULT_QUEUE_TYPE=kind):
        if first == "celery":
            by_celery()
        broker.send_many([message("a", queue)])
        by_celery()  # raises 406 if anything differs
    stock.close()
    assert "djq.queue.declared_otherwise" not in caplog.text


def test_a_queue_that_exists_with_other_arguments_is_used_as_it_is(
    url: str,
    broker: Broker,
    queue: str,
    caplog: pytest.LogCaptureFixture,
    transactional_db: None,
    request: pytest.FixtureRequest,
) -> None:
    with Connection(url) as connection:
        Queue(queue, max_length=5).bind(connection.default_channel).declare()
    source = request.getfixturevalue("source")
    broker.send_many([message("a", queue)])
    assert received(source, 1)[0].message.headers["id"] == "a"
    assert f"djq.queue.declared_otherwise queue={queue}" in caplog.text


def test_the_way_to_log_in_is_the_one_that_is_set(url: str, queue: str) -> None:
    with settings.override(BROKER_LOGIN_METHOD="AMQPLAIN"):
        willing = AmqpBroker(url)
        willing.send_many([message("a", queue)])
    with settings.override(BROKER_LOGIN_METHOD="EXTERNAL"):
        refused = AmqpBroker(url)
        with pytest.raises(OperationalError):
            refused.send_many([message("b", queue)])
    assert willing.size(queue) == 1
    willing.close()
    refused.close()


def test_a_node_that_says_nothing_is_given_up_when_the_time_to_connect_is_over(queue: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        broker = AmqpBroker(f"amqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}//")
        source = broker.source([queue], f"consumer-{os.getpid()}")
        began = time.monotonic()
        with settings.override(BROKER_CONNECTION_TIMEOUT=0.3), pytest.raises(OperationalError):
            source.open(lambda *_: None, lambda: None)
        assert time.monotonic() - began < 3.5  # the default is four seconds
        board = broker.start_board_path(f"consumer-{os.getpid()}")
        assert board is not None
        assert not board.exists()
        broker.close()


def test_no_more_is_in_hand_than_allowed_and_more_once_more_is_allowed(
    broker: Broker, queue: str, transactional_db: None
) -> None:
    broker.send_many([message(str(number), queue) for number in range(60)])
    waiting = Waiting()
    source = broker.source([queue], f"consumer-{os.getpid()}")
    source.most_held = 20
    source.open(waiting.watch, waiting.wake)
    held = received(source, 20)
    assert source.receive(40) == []
    assert broker.size(queue) == 40
    source.most_held = 30
    held += received(source, 10)
    assert source.receive(30) == []
    assert broker.size(queue) == 30
    assert source.settle([one.ack() for one in held]) == []
    source.close()
    waiting.close()


def test_nine_comes_first_in_a_queue_with_priorities(
    broker: Broker, queue: str, transactional_db: None, request: pytest.FixtureRequest
) -> None:
    with settings.override(TASK_QUEUE_MAX_PRIORITY=9):
        broker.send_many([message(str(number), queue, priority=number) for number in (0, 9, 4)])
        source = request.getfixturevalue("source")
        first = received(source, 1)  # opening has asked for one
        assert [one.message.headers["id"] for one in [*first, *received(source, 2)]] == ["9", "4", "0"]


def test_what_is_refused_for_its_size_raises(broker: Broker, queue: str, amqp_server: Server) -> None:
    if not isinstance(amqp_server, PrivateRabbit):
        pytest.skip("the limits of a node that is not ours are not to be changed")
    amqp_server.control("eval", "application:set_env(rabbit, max_message_size, 100000).")
    try:
        with pytest.raises(OperationalError, match="size"):
            broker.send_many([message("big", queue, body=b"x" * 200_000)])
        broker.send_many([message("small", queue)])
    finally:
        amqp_server.control("eval", "application:set_env(rabbit, max_message_size, 134217728).")
    assert broker.size(queue) == 1


def test_a_full_queue_that_refuses_raises(url: str, broker: Broker, queue: str) -> None:
    with Connection(url) as connection:
        arguments = {"x-max-length": 2, "x-overflow": "reject-publish"}
        Queue(queue, queue_arguments=arguments).bind(connection.default_channel).declare()
    with pytest.raises(OperationalError, match="did not accept"):
        broker.send_many([message(str(number), queue) for number in range(10)])
    assert broker.size(queue) >= 2


def test_the_next_address_is_used_when_one_is_gone(url: str, queue: str, transactional_db: None) -> None:
    several = f"amqp://guest:guest@127.0.0.1:{free_port()}/amqp;{url}"
    broker = brokers.broker(several)
    broker.send_many([message("a", queue)])
    assert broker.size(queue) == 1
    assert "guest:guest" not in repr(broker)


def test_an_address_where_nobody_answers_costs_a_bounded_time(queue: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        broker = AmqpBroker(f"amqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}//")
        began_at = time.monotonic()
        with pytest.raises(OperationalError, match="cannot be reached"):
            broker.send_many([message("a", queue)])
        assert time.monotonic() - began_at < 12


def test_who_asks_workers_is_not_held_up_by_a_node_that_falls_silent(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "ANSWERS_WITHIN", 1.0)
    proxy = Proxy(url)
    ask = mailbox.send_command

    def ask_then_hear_nothing(*of: Any) -> None:
        ask(*of)
        proxy.hole()

    monkeypatch.setattr(mailbox, "send_command", ask_then_hear_nothing)
    began_at = time.monotonic()
    with settings.override(BROKER_URL=proxy.url):
        assert control.ping(timeout=0.2) == []
    assert time.monotonic() - began_at < 10  # without bounds it waits for ever
    proxy.close()


def test_threads_and_forks_do_not_get_in_each_others_way(broker: Broker, queue: str) -> None:
    broker.send_many([message("parent", queue)])
    threads = [
        threading.Thread(
            target=lambda name=name: [broker.send_many([message(f"{name}-{n}", queue)]) for n in range(20)]
        )
        for name in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    child = os.fork()
    if child == 0:
        try:
            brokers.after_fork()
            broker.send_many([message("child", queue)])
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    broker.send_many([message("parent", queue)])
    assert broker.size(queue) == 103


def test_nobody_bound_to_an_exchange_is_an_error_of_its_own(broker: Broker) -> None:
    outgoing = message("a", "nowhere")
    for exchange in ("amq.topic", "no.such.exchange"):
        outgoing.destination = Destination(exchange, "nowhere")
        with pytest.raises(Unroutable, match="RabbitMQ"):
            broker.send_many([outgoing])


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b"not json"),
        ({"task": None, "id": 5}, b"{}"),
        ({"task": ["t"], "id": "x"}, b"\xff\xfe"),
        (None, b""),
        ({"id": "x" * 5000, "task": "t"}, b"[]"),
        ({"x-djq-starts": "many", "x-djq-due": "later", "task": "t", "id": "y"}, b"[]"),
        ({"x-djq-starts": -3, "x-djq-due": True, "task": "t", "id": "z"}, b"[]"),
    ],
)
def test_odd_messages_of_other_clients_are_handed_on_for_judgement(
    url: str, source: Source, queue: str, headers: Any, body: bytes
) -> None:
    with Connection(url) as connection:
        channel = connection.default_channel
        made = channel.prepare_message(body, None, "application/json", "binary", headers)
        channel.basic_publish(made, routing_key=queue)
    (delivery,) = received(source, 1)
    assert (delivery.starts, delivery.message.body) == (0, body)
    assert source.settle([delivery.bury("invalid_envelope", "odd \x00")]) == []
    letter = DeadLetter.objects.get()
    assert (letter.reason, bytes(letter.body)) == ("invalid_envelope", body)
    assert json.loads(letter.headers) == (headers or {})


def test_a_message_that_is_delayed_again_and_again_is_not_taken_for_a_loop(
    broker: Broker, source: Source, queue: str
) -> None:
    with settings.override(BROKER_NATIVE_DELAYED_DELIVERY_QUEUE_TYPE="classic"):
        broker.send_many([message("a", queue)])
        for turn in range(3):
            (delivery,) = received(source, 1)
            assert delivery.starts == turn
            assert delivery.message.headers.get("id") == "a"
            source.settle([delivery.delay(time.time() + 1.3, started=True)])
        assert received(source, 1)[0].starts == 3


def twice(source: Any) -> None:
    """Acknowledge the first delivery of the channel, which is acknowledged already."""
    source._wire.settle(source._channel, [(1, False, False)])


def unknown(source: Any) -> None:
    """Acknowledge what was never delivered."""
    source._wire.settle(source._channel, [(99, False, False)])


def on_a_closed_channel(source: Any) -> None:
    """Close the channel, as RabbitMQ does when it is displeased, and acknowledge on it."""
    source._wire.channels[source._channel].close()
    source._wire.settle(source._channel, [(2, False, False)])


@pytest.mark.parametrize(
    ("mistake", "words"),
    [(twice, "unknown delivery tag 1"), (unknown, "unknown delivery tag 99"), (on_a_closed_channel, "chan")],
)
def test_an_answer_that_rabbitmq_does_not_understand_costs_nobody_anything(
    broker: Broker, source: Source, queue: str, mistake: Any, words: str
) -> None:
    broker.send_many([message(name, queue) for name in "abc"])
    ended, ends, runs = received(source, 3)
    answer = ended.ack()
    with pytest.raises(AlreadySettled):
        ended.ack()
    assert source.settle([answer]) == []
    assert source.settle([answer]) == [ended]  # nothing is written for what is not in hand
    mistake(source)

    def is_told() -> bool:
        source.tend(time.monotonic())
        return False

    with pytest.raises(OperationalError, match=words):
        wait_until(is_told, WAIT, "for RabbitMQ to close the channel")
    assert source.settle([ends.ack()]) == [ends]  # it ended while there was no connection
    broker.send_many([message("d", queue)])
    (after,) = received(source, 1)  # behind what came back: one had ended, the other was adopted
    assert after.message.headers["id"] == "d"
    assert source.settle([runs.ack(), after.ack()]) == []
    source.close()
    assert broker.size(queue) == 0
