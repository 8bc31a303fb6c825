"""Exchanges, bindings and broadcasts: what is sent reaches the queues it is meant for, or is refused."""

from __future__ import annotations

import time
from typing import Any

import pytest
from kombu.common import Broadcast
from kombu.entity import Exchange, Queue, binding

from djqueue.core.messages import Outgoing
from djqueue.exceptions import OperationalError
from djqueue.messaging import brokers
from djqueue.messaging.contract import Source
from tests.contracts.sources.conftest import Bench, ids, outgoing, receive_within

TOPIC = Exchange("media", type="topic")
QUEUES = [
    Queue("feeds", TOPIC, routing_key="feed.#"),
    Queue("pictures", TOPIC, routing_key="*.image"),
    Queue("both", [binding(TOPIC, routing_key="feed.rss"), binding(Exchange("d"), routing_key="key")]),
    Queue("keyed", Exchange("hub"), routing_key="k", alias="second-name"),
]


@pytest.fixture(autouse=True)
def declared(settings: Any, bench: Bench) -> None:
    settings.DJQUEUE = {
        **settings.DJQUEUE,
        "TASK_QUEUES": [*QUEUES, Broadcast("news"), Broadcast("news", alias="more news")],
    }


def send(bench: Bench, task_id: str, due: float | None = None, **options: Any) -> None:
    """Send one message where the options say, as the router understands them."""
    place = brokers.router().destination("tests.add", options)
    message = outgoing(task_id, "", None, b"[[], {}, {}]", None, {}).message
    bench.broker.send_many([Outgoing(message, place, due)])


def listener(bench: Bench, alias: str) -> Source:
    """Return a source on the queue of that alias."""
    return bench.source(brokers.queues().get(alias).name)


def test_a_topic_reaches_every_queue_whose_pattern_matches(bench: Bench) -> None:
    send(bench, "a", exchange="media", routing_key="feed.rss")
    send(bench, "b", exchange="media", routing_key="feed.image")
    send(bench, "c", exchange="media", routing_key="other.image")
    assert ids(bench.source("feeds").receive(10)) == ["a", "b"]
    pictures = bench.source("pictures").receive(10)
    assert ids(pictures) == ["b", "c"]
    assert [(one.exchange, one.routing_key, one.queue) for one in pictures] == [
        ("media", "feed.image", "pictures"),
        ("media", "other.image", "pictures"),
    ]
    assert ids(bench.source("both").receive(10)) == ["a"]


def test_a_direct_exchange_is_reached_by_its_key_and_the_queue_by_its_names(bench: Bench) -> None:
    send(bench, "a", exchange="hub", routing_key="k")
    send(bench, "b", queue="keyed")
    send(bench, "c", queue="second-name")
    send(bench, "d", exchange="d", routing_key="key")
    assert ids(bench.source("keyed").receive(10)) == ["a", "b", "c"]
    assert ids(bench.source("both").receive(10)) == ["d"]


def test_what_matches_nothing_is_refused(bench: Bench) -> None:
    with pytest.raises(OperationalError, match="'media'"):
        send(bench, "a", exchange="media", routing_key="nobody")
    with pytest.raises(OperationalError, match="'unheard'"):
        send(bench, "a", exchange="unheard", routing_key="of")


def test_a_queue_made_at_run_time_is_bound(bench: Bench) -> None:
    source = bench.source("keyed")
    brokers.queues().add("late", exchange="media", exchange_type="topic", routing_key="late.*")
    source.add_queue("late")
    send(bench, "a", queue="late", routing_key="late.night")
    assert ids(receive_within(source, 10, "it was sent")) == ["a"]


def test_a_broadcast_reaches_all_who_listen_and_is_settled_as_any_other(bench: Bench) -> None:
    one, two = listener(bench, "news"), listener(bench, "more news")
    send(bench, "a", queue="news")
    send(bench, "b", queue="news")
    first, second = receive_within(one, 10, "a broadcast"), receive_within(two, 10, "a broadcast")
    while len(first) < 2:
        first += receive_within(one, 10, "the second")
    while len(second) < 2:
        second += receive_within(two, 10, "the second")
    assert ids(first) == ids(second) == ["a", "b"]
    assert one.settle([each.ack() for each in first]) == []
    assert one.receive(10) == []
    assert two.settle([second[0].release(started=True), second[1].bury("rejected", "no good")]) == []
    (again,) = receive_within(two, 10, "what was given back")
    assert (again.message.headers["id"], again.starts, again.redelivered) == ("a", 1, True)
    assert two.settle([again.delay(time.time() + 1.2)]) == []
    assert two.receive(10) == []
    (later,) = receive_within(two, 10, "what was put off")
    assert later.message.headers["id"] == "a"
    assert [letter[:3] for letter in bench.dead_letters()] == [("rejected", "no good", "b")]


def test_nobody_is_sent_what_he_is_too_late_to_hear(bench: Bench) -> None:
    source = listener(bench, "news")
    send(bench, "a", queue="news")
    receive_within(source, 10, "a broadcast")
    source.close()
    if bench.broker.capabilities.in_process:
        return  # its queues stay while the process does
    with pytest.raises(OperationalError):
        send(bench, "b", queue="news")
    late = listener(bench, "more news")
    send(bench, "c", queue="news")
    assert ids(receive_within(late, 10, "a broadcast")) == ["c"]
