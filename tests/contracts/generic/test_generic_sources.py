"""What brokers behind kombu's transports do for a worker, and what they say that they do not."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from kombu.common import Broadcast
from kombu.entity import Exchange, Queue

from djqueue.core.messages import Destination, Outgoing
from djqueue.exceptions import EncodeError, OperationalError
from djqueue.messaging import brokers
from djqueue.messaging.transports.generic.link import Link
from djqueue.models import DeadLetter
from tests.contracts.generic.conftest import (
    WAIT,
    Bench,
    files,
    is_empty,
    kill,
    of_every_kind,
    outgoing,
    receive,
)
from tests.contracts.sources.conftest import ids
from tests.support.waiting import wait_until


def test_a_message_arrives_as_it_was_sent(bench: Bench) -> None:
    bench.send("a", body=b"\x00\xff binary", ünï="ç", nested={"list": [1, None, 2.5]}, eta=None)
    (delivery,) = receive(bench.source())
    message = delivery.message
    assert message.body == b"\x00\xff binary"
    assert message.headers == {
        "task": "tests.add",
        "id": "a",
        "ünï": "ç",
        "nested": {"list": [1, None, 2.5]},
        "eta": None,
    }
    assert message.properties == {"correlation_id": "a", "priority": 0, "delivery_mode": 2}
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")
    assert delivery.delivery_info() == {
        "exchange": "",
        "routing_key": "default",
        "priority": 0,
        "redelivered": False,
        "queue": "default",
    }


def test_all_that_is_sent_comes_once_and_what_is_acknowledged_is_gone(bench: Bench) -> None:
    names = [f"{number:02}" for number in range(25)]
    bench.send(*names)
    source = bench.source()
    received = receive(source, 25)
    if bench.broker.capabilities.keeps_order:
        assert ids(received) == names
    assert sorted(ids(received)) == names
    assert source.settle([one.ack() for one in received]) == []
    wait_until(lambda: is_empty(source, bench.broker), WAIT, "for the queue to be empty")


def test_no_more_is_handed_out_than_there_is_room_for(bench: Bench) -> None:
    bench.send(*"abcde")
    source = bench.source()
    assert source.receive(0) == []
    first = receive(source, 2)
    assert len(first) == 2
    assert sorted(ids([*first, *receive(source, 3)])) == list("abcde")


def test_two_consumers_never_share_a_message(bench: Bench) -> None:
    bench.send(*(f"{number:02}" for number in range(12)))
    one, two = bench.source(), bench.source()
    received = [*receive(one, 3), *receive(two, 3), *receive(one, 3), *receive(two, 3)]
    assert sorted(map(int, ids(received))) == list(range(12))


def test_what_is_given_back_comes_again_and_starts_are_counted(bench: Bench) -> None:
    bench.send("a")
    source = bench.source()
    (first,) = receive(source)
    assert source.settle([first.release()]) == []
    (second,) = receive(source)
    assert (second.message.headers["id"], second.starts) == ("a", 0)
    assert source.settle([second.release(started=True)]) == []
    (third,) = receive(source)
    assert (third.starts, third.redelivered) == (1, True)
    assert source.settle([third.release(started=True)]) == []
    (fourth,) = receive(source)
    assert (fourth.starts, fourth.message.body) == (2, b"[[], {}, {}]")
    assert source.settle([fourth.ack()]) == []
    wait_until(lambda: is_empty(source, bench.broker), WAIT, "for the queue to be empty")


def test_what_is_put_off_is_held_until_it_is_due(bench: Bench) -> None:
    bench.send("a")
    source = bench.source()
    (first,) = receive(source)
    due = time.time() + 1.0
    assert source.settle([first.delay(due, started=True)]) == []
    (again,) = receive(source)
    assert time.time() >= due
    assert (again.starts, again.redelivered) == (1, True)
    assert source.settle([again.ack()]) == []


def test_a_dead_letter_is_a_row_of_the_project(bench: Bench) -> None:
    bench.send("a")
    source = bench.source()
    (delivery,) = receive(source)
    assert source.settle([delivery.bury("rejected", "no good")]) == []
    (letter,) = DeadLetter.objects.all()
    assert (letter.task_id, letter.queue) == ("a", "default")
    assert (letter.reason, letter.detail) == ("rejected", "no good")
    wait_until(lambda: is_empty(source, bench.broker), WAIT, "for the queue to be empty")


@of_every_kind
@pytest.mark.parametrize(
    "payload",
    [
        7,
        [],
        {"headers": {"id": "a"}},
        {"properties": 7, "body": "x"},
        {"properties": {"delivery_tag": "t"}, "headers": "spoilt", "body": "x"},
        {"properties": {"delivery_tag": "t", "body_encoding": "rot13"}, "headers": {}, "body": "x"},
    ],
)
def test_what_is_no_message_is_a_dead_letter_and_holds_nobody_up(bench: Bench, payload: Any) -> None:
    if bench.broker.url.startswith("sqs"):
        pytest.skip("kombu's own channel puts nothing else into it")
    bench.send("before")
    link = Link(bench.broker.url)
    with link.channel() as channel:
        channel._put("default", payload)
    link.close()
    bench.send("after")
    source = bench.source()
    received = receive(source, 2)
    assert ids(received) == ["before", "after"]
    wait_until(DeadLetter.objects.exists, WAIT, "for the dead letter")
    assert [letter.reason for letter in DeadLetter.objects.all()] == ["undecodable"]
    assert source.settle([one.ack() for one in received]) == []
    wait_until(lambda: is_empty(source, bench.broker), WAIT, "for the queue to be empty")


def test_text_that_is_no_json_is_a_dead_letter(tmp_path: Path, settings: Any, transactional_db: None) -> None:
    url, options = files(None, tmp_path)
    settings.DJQUEUE = {**settings.DJQUEUE, "BROKER_TRANSPORT_OPTIONS": options}
    bench = Bench(brokers.broker(url), options)
    texts = (b"", b"{no json", b"\xff\xfe", b'{"__type__": "datetime", "__value__": 1}')
    for number, text in enumerate(texts):
        (tmp_path / "messages" / f"{number}_x.default.msg").write_bytes(text)
    bench.send("good")
    source = bench.source()
    received = receive(source)

    def are_buried() -> bool:
        received.extend(source.receive(5))
        return DeadLetter.objects.count() == len(texts)

    wait_until(are_buried, WAIT, "for the dead letters")
    assert ids(received) == ["good"]
    bench.close()


def test_everything_settled_in_one_go(bench: Bench) -> None:
    bench.send(*"abcd")
    source = bench.source()
    by_id = {one.message.headers["id"]: one for one in receive(source, 4)}
    answers = [by_id["a"].ack(), by_id["b"].release(), by_id["c"].bury("rejected")]
    assert source.settle([*answers, by_id["d"].release(started=True)]) == []
    again = sorted((ids([one])[0], one.starts) for one in receive(source, 2))
    assert again == [("b", 0), ("d", 1)]


def test_closing_gives_everything_back_uncounted(bench: Bench) -> None:
    bench.send(*"abc")
    source = bench.source()
    receive(source, 2)
    source.close()
    again = receive(bench.source(), 3)
    assert sorted(ids(again)) == ["a", "b", "c"]
    assert [one.starts for one in again] == [0, 0, 0]


@of_every_kind
def test_a_killed_consumers_messages_come_back_where_the_broker_says_so(bench: Bench) -> None:
    bench.send("a", "b")
    kill(bench.holder(2))
    bench.send("c")
    expected = {"a", "b", "c"} if bench.broker.capabilities.redelivers else {"c"}
    source = bench.source()
    assert set(ids(receive(source, len(expected)))) == expected


def test_queues_come_and_go_while_the_source_is_open(bench: Bench) -> None:
    source = bench.source("one")
    bench.send("a", queue="two")
    assert source.receive(1) == []
    source.add_queue("two")
    (first,) = receive(source)
    assert (first.message.headers["id"], first.queue) == ("a", "two")
    source.cancel_queue("two")
    bench.send("b", queue="two")
    bench.send("c", queue="one")
    assert ids(receive(source)) == ["c"]
    assert source.receive(5) == []
    assert source.settle([first.ack()]) == []
    assert ids(receive(bench.source("two"))) == ["b"]


def test_size_and_purge_count_what_waits(bench: Bench) -> None:
    assert bench.broker.size("default") == 0
    bench.send(*"abc")
    assert bench.broker.size("default") == 3
    assert bench.broker.purge("default") == 3
    wait_until(lambda: bench.broker.size("default") == 0, WAIT, "for the queue to be empty")


@of_every_kind
def test_many_threads_send_at_once(bench: Bench) -> None:
    names = [f"{number:02}" for number in range(20)]
    errors: list[Exception] = []

    def send(some: list[str]) -> None:
        try:
            for one in some:
                bench.send(one)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=send, args=(names[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(ids(receive(bench.source(), 20))) == names


@of_every_kind
def test_a_header_that_cannot_be_written_is_an_error(bench: Bench) -> None:
    with pytest.raises(EncodeError, match="cannot be written"):
        bench.send("a", odd=object())
    assert bench.broker.size("default") == 0


@of_every_kind
def test_exchanges_lead_to_queues_as_far_as_the_broker_knows_them(bench: Bench, settings: Any) -> None:
    queues = [
        Queue("plain", Exchange("hub"), routing_key="k"),
        Queue("feeds", Exchange("media", type="topic"), routing_key="feed.#"),
        Broadcast("news"),
    ]
    settings.DJQUEUE = {**settings.DJQUEUE, "TASK_QUEUES": queues}
    message = outgoing("a", "", b"[]", {}).message
    knows = bench.broker.capabilities.exchanges
    bench.broker.send_many([Outgoing(message, Destination("hub", "k"))])
    (plain,) = receive(bench.source("plain"))
    assert (plain.exchange, plain.routing_key) == ("hub", "k")
    with pytest.raises(OperationalError, match="No queue is bound to exchange 'hub'"):
        bench.broker.send_many([Outgoing(message, Destination("hub", "nobody"))])
    topic = [Outgoing(message, Destination("media", "feed.rss"))]
    if "topic" in knows:
        bench.broker.send_many(topic)
        assert ids(receive(bench.source("feeds"))) == ["a"]
    else:
        with pytest.raises(OperationalError, match="is a topic exchange"):
            bench.broker.send_many(topic)
    news = [Outgoing(message, brokers.router().destination("t", {"queue": "news"}))]
    if "fanout" in knows:
        listener = bench.source(brokers.queues().get("news").name)
        wait_until(lambda: _is_heard(bench, news), WAIT, "for the listener to be bound")
        assert ids(receive(listener)) == ["a"]
    else:
        with pytest.raises(OperationalError, match="is a fanout exchange"):
            bench.broker.send_many(news)


def _is_heard(bench: Bench, news: list[Outgoing]) -> bool:
    try:
        bench.broker.send_many(news)
    except OperationalError:
        return False
    return True


@of_every_kind
def test_what_the_broker_cannot_do_is_named(bench: Bench) -> None:
    problems = {one.id: one.message for one in bench.broker.problems()}
    capabilities = bench.broker.capabilities
    assert ("broker_loses" in problems) is not capabilities.redelivers
    assert ("remote control" in problems["broker_limits"]) is ("fanout" not in capabilities.exchanges)
    assert not capabilities.delays
    assert "delayed" in problems["broker_limits"]
