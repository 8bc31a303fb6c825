"""kombu and we on the same keys: each reads what the other sends, and leaves alone what the other holds.

The stock side is kombu itself, in this process; whole stock workers are in `tests/wire`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.messaging import Consumer, Producer

from djqueue.core.messages import Destination, Outgoing
from djqueue.exceptions import OperationalError
from tests.contracts.redis.conftest import Bench, ids, outgoing, receive
from tests.support.waiting import wait_until

BODY = [[2, 2], {}, {}]


@pytest.fixture
def stock(bench: Bench) -> Iterator[Connection]:
    with Connection(bench.url) as connection:
        yield connection


def send(stock: Connection, task_id: str, queue: Queue | str = "default", **options: Any) -> None:
    """Send as a stock Celery does: straight to the queue, or to its exchange."""
    with Producer(stock) as producer:
        place = {"routing_key": queue} if isinstance(queue, str) else {"declare": [queue]}
        producer.publish(
            BODY, serializer="json", headers={"task": "tests.add", "id": task_id}, **{**place, **options}
        )


def take(stock: Connection, queue: str = "default") -> tuple[Any, Any]:
    """Receive one message as a stock worker does; return its payload and kombu's message, unacknowledged."""
    taken: list[tuple[Any, Any]] = []
    channel = stock.channel()
    with Consumer(channel, [Queue(queue)], accept=["json"], callbacks=[lambda *both: taken.append(both)]):
        wait_until(lambda: stock.drain_events(timeout=2) or taken, 5, "for kombu to receive")
    return taken[0]


def test_what_kombu_sends_we_receive(bench: Bench, stock: Connection) -> None:
    for priority in (9, 0, 5):
        send(stock, f"with {priority}", priority=priority)
    received = bench.source().receive(10)
    assert ids(received) == ["with 0", "with 5", "with 9"]
    assert [json.loads(one.message.body) for one in received] == [BODY] * 3
    assert received[1].delivery_info() == {
        "exchange": "",
        "routing_key": "default",
        "priority": 5,
        "redelivered": False,
        "queue": "default",
    }


def test_what_we_send_kombu_receives(bench: Bench, stock: Connection) -> None:
    bench.send("a", priority=3, eta="2030-01-01T00:00:00+00:00")
    payload, message = take(stock)
    assert payload == BODY
    assert message.headers == {"task": "tests.add", "id": "a", "eta": "2030-01-01T00:00:00+00:00"}
    assert message.properties["priority"] == 3
    message.ack()
    assert bench.client.hlen("unacked") == 0


def test_kombu_finds_our_queues_by_exchange_and_we_find_kombus(bench: Bench, stock: Connection) -> None:
    source = bench.source("mails")
    send(stock, "by name", Queue("mails", Exchange("mails"), "mails"), exchange="mails", routing_key="mails")
    assert ids(source.receive(10)) == ["by name"]
    video = Queue("videos", Exchange("media"), routing_key="video")
    image = Queue("images", Exchange("media"), routing_key="image")
    for queue in (video, image):
        queue(stock.channel()).declare()
    sent = outgoing("a video")
    bench.broker().send_many([Outgoing(sent.message, Destination("media", "video"))])
    assert (bench.client.llen("videos"), bench.client.llen("images")) == (1, 0)
    _, message = take(stock, "videos")
    assert message.delivery_info["exchange"] == "media"
    message.ack()


def test_topics_and_broadcasts_go_where_kombu_sends_them(bench: Bench, stock: Connection) -> None:
    topics = Exchange("topics", type="topic")
    for name, pattern in (("all", "#"), ("mine", "shop.*"), ("yours", "blog.*")):
        Queue(name, topics, routing_key=pattern)(stock.channel()).declare()
    broker = bench.broker()
    broker.send_many([Outgoing(outgoing("a").message, Destination("topics", "shop.sold"))])
    assert [bench.client.llen(name) for name in ("all", "mine", "yours")] == [1, 1, 0]
    heard: list[Any] = []
    news = Queue("listener", Exchange("news", type="fanout"), auto_delete=True)
    channel = stock.channel()
    with Consumer(
        channel, [news], accept=["json"], callbacks=[lambda body, _: heard.append(body)], no_ack=True
    ):

        def listen() -> list[Any]:
            with suppress(OperationalError):  # as long as nobody has subscribed
                broker.send_many([Outgoing(outgoing("b").message, Destination("news", ""))])
            try:
                stock.drain_events(timeout=0.2)
            except TimeoutError:
                return []
            return heard

        assert wait_until(listen, 5, "for the broadcast to be heard")[0] == BODY


def test_where_nothing_is_bound_nothing_is_sent_into_the_void(bench: Bench) -> None:
    with pytest.raises(OperationalError, match="No queue is bound to exchange 'nowhere'"):
        bench.broker().send_many([Outgoing(outgoing("a").message, Destination("nowhere", "key"))])


def test_a_broadcast_that_nobody_hears_is_refused(bench: Bench, stock: Connection) -> None:
    Queue("listener", Exchange("news", type="fanout"), auto_delete=True)(stock.channel()).declare()
    with pytest.raises(OperationalError, match="No worker listens to the exchange 'news'"):
        bench.broker().send_many([Outgoing(outgoing("a").message, Destination("news", ""))])


def test_prefix_separator_and_steps_are_kombus(bench: Bench) -> None:
    options: dict[str, Any] = {"global_keyprefix": "shop:", "sep": ":", "priority_steps": [0, 5]}
    with Connection(bench.url, transport_options=options) as stock:
        send(stock, "theirs", priority=7)
        source = bench.source(**options)
        (delivery,) = source.receive(10)
        assert ids([delivery]) == ["theirs"]
        assert source.settle([delivery.ack()]) == []
        bench.send("ours", broker=bench.broker(**options), priority=7)
        payload, message = take(stock)
        assert payload == BODY
        message.ack()
    assert all(key.startswith("shop:") for key in bench.client.keys("*"))


def test_sizes_are_kombus(bench: Bench, stock: Connection) -> None:
    for priority in (0, 3, 9):
        bench.send("a", "b", priority=priority)
    assert bench.broker().size("default") == stock.channel()._size("default") == 6


def test_stock_restores_what_we_hold_once_we_are_silent_and_we_notice(
    bench: Bench, stock: Connection
) -> None:
    bench.send("a", "b", priority=5)
    source = bench.source()
    first, second = source.receive(10)
    channel = stock.channel()
    channel.qos.restore_by_tag(first.tag)
    _, message = take(stock)
    assert message.headers == {"task": "tests.add", "id": "a", "redelivered": True}
    assert message.delivery_info["redelivered"] is True
    message.ack()
    assert source.settle([first.ack(), second.ack()]) == [first]
    assert bench.client.hlen("unacked") == 0
    assert bench.client.zcard("unacked_index") == 0


def test_stock_never_finds_what_we_hold_overdue_while_we_live(bench: Bench) -> None:
    bench.send("a")
    source = bench.source(lease=0.5)
    source.receive(10)
    ((tag, taken_at),) = bench.client.zrange("unacked_index", 0, -1, withscores=True)
    assert abs(taken_at - time.time()) < 5
    wait_until(lambda: bench.client.zscore("unacked_index", tag) > taken_at, 5, "for the lease to be renewed")


def test_what_stock_holds_we_leave_alone(bench: Bench, stock: Connection) -> None:
    send(stock, "theirs")
    _, message = take(stock)
    source = bench.source()
    source.tend(time.monotonic())
    source.close()
    assert bench.client.hlen("unacked") == 1
    message.requeue()
    assert ids(receive(bench.source())) == ["theirs"]


def test_a_stock_consumer_that_waits_gets_the_message_that_we_peek_at(
    bench: Bench, stock: Connection
) -> None:
    bench.source()  # its thread looks at the list, and nobody asks it to receive
    bench.send("a")
    payload, message = take(stock)
    assert payload == BODY
    message.ack()
