"""Queues, exchanges and broadcasts that djqueue and stock Celery share on one Redis, declared by either."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from celery.utils.nodenames import worker_direct
from kombu import Connection
from kombu.entity import Exchange, Queue

from djqueue import app
from djqueue.exceptions import OperationalError
from djqueue.messaging import brokers
from tests.project import tasks
from tests.support.fleet import Fleet
from tests.support.ledger import ENDED, Ledger
from tests.support.waiting import wait_until
from tests.wire import stock

pytestmark = [pytest.mark.wire, pytest.mark.usefixtures("djqueue")]

WAIT = 20.0
TOPICS = {
    "feeds": {"exchange": "media", "exchange_type": "topic", "routing_key": "feed.#"},
    "pictures": {"exchange": "media", "exchange_type": "topic", "routing_key": "image.*"},
    "plain": {"exchange": "other", "routing_key": "plain.key"},
}
ENTITIES = [
    Queue("feeds", Exchange("media", type="topic"), routing_key="feed.#"),
    Queue("pictures", Exchange("media", type="topic"), routing_key="image.*"),
    Queue("plain", Exchange("other"), routing_key="plain.key"),
]


@pytest.fixture
def topics(fleet: Fleet, settings: Any) -> None:
    """Let this process know the queues."""
    settings.DJQUEUE = fleet.settings(TASK_QUEUES=TOPICS)


def bound(server: redis.Redis) -> dict[str, set[bytes]]:
    """Return all tables of bindings of these exchanges."""
    return {
        key: server.smembers(key)
        for exchange in ("media", "other")
        for key in (f"_kombu.binding.{exchange}", f"_kombu.binding_permanent.{exchange}")
    }


def test_bindings_are_written_as_kombu_writes_them(server: redis.Redis, fleet: Fleet, topics: None) -> None:
    with Connection(fleet.url) as connection:
        for queue in ENTITIES:
            queue(connection.channel()).declare()
    theirs = bound(server)
    server.flushdb()
    source = brokers.broker().source(["feeds", "pictures", "plain"], "somebody")
    source.open(lambda *_: None, lambda: None)
    source.close()
    assert bound(server) == theirs


def test_a_sender_that_comes_first_declares_what_it_sends_to(
    server: redis.Redis, fleet: Fleet, topics: None
) -> None:
    server.flushdb()
    result = tasks.add.apply_async((1, 2), exchange="media", routing_key="image.png")
    assert (server.llen("pictures"), server.llen("feeds")) == (1, 0)
    taker = fleet.celery(queue="pictures", name="pictures", task_queues=TOPICS)
    assert result.get(timeout=WAIT) == 3
    taker.terminate(within=20)


@pytest.fixture(scope="module")
def knowing(fleet: Fleet, celery: Celery) -> Iterator[Celery]:
    """Return a stock client that knows the queues, and reads results as the other does."""
    made = stock.client(fleet.url, task_queues={**TOPICS, "any": news("any")["any"]})
    yield made
    made.backend.result_consumer.stop()
    made.backend.client.close()
    made.close()


def news(queue: str) -> dict[str, Any]:
    """Return the declaration of a queue that gets all news."""
    return {queue: {"exchange": "news", "exchange_type": "fanout", "routing_key": "news"}}


def test_our_worker_takes_what_celery_sends_to_the_exchange(knowing: Celery, fleet: Fleet) -> None:
    fleet.djqueue(queue="feeds,plain", name="topical", TASK_QUEUES=TOPICS)
    by_topic = knowing.send_task(tasks.describe.name, queue="feeds", routing_key="feed.rss.new")
    by_key = knowing.send_task(tasks.add.name, (1, 1), exchange="other", routing_key="plain.key")
    assert by_topic.get(timeout=WAIT)["hostname"].startswith("topical@")
    assert by_key.get(timeout=WAIT) == 2


def test_nothing_is_sent_where_nothing_is_bound(topics: None) -> None:
    with pytest.raises(OperationalError, match="No queue is bound to exchange 'media' with routing key 'x'"):
        tasks.add.apply_async((1, 2), exchange="media", routing_key="x", retry=False)


def test_everybody_gets_a_broadcast(
    server: redis.Redis, knowing: Celery, fleet: Fleet, settings: Any, tmp_path: Path
) -> None:
    settings.DJQUEUE = fleet.settings(TASK_QUEUES=news("any"))
    with pytest.raises(OperationalError, match="No worker listens to the exchange 'news'"):
        tasks.add.apply_async((1, 2), queue="any", retry=False)
    names = ("n1", "n2")
    for name in names:
        fleet.djqueue(queue=f"news-{name}", name=name, TASK_QUEUES=news(f"news-{name}"))
    fleet.celery(queue="news-stock", name="n3", task_queues=news("news-stock"))
    path = tmp_path / "ledger"
    ledger = Ledger(path)
    # Each worker runs its own copy of the same task, three runs in all.
    tasks.record.apply_async((str(path),), queue="any", task_id="from-us", ignore_result=True)
    wait_until(lambda: ledger.ids(ENDED).count("from-us") == 3, WAIT, "for three workers to run it")
    by_celery = {"args": (str(path),), "ignore_result": True}
    knowing.send_task(tasks.record.name, queue="any", task_id="from-celery", **by_celery)
    wait_until(lambda: ledger.ids(ENDED).count("from-celery") == 3, WAIT, "for three workers to run it")
    # Under a key that stock workers do not subscribe to, all of ours hear it all the same.
    knowing.send_task(tasks.record.name, queue="any", exchange="news", task_id="keyless", **by_celery)
    wait_until(lambda: ledger.ids(ENDED).count("keyless") == 2, WAIT, "for our workers to run it")
    # Put off and retried as any other.
    tasks.record.apply_async((str(path),), queue="any", task_id="later", countdown=1, ignore_result=True)
    wait_until(lambda: ledger.ids(ENDED).count("later") == 3, WAIT, "for the countdown to end everywhere")
    assert server.hlen("unacked") == 0


def test_a_worker_has_a_queue_of_its_own(celery: Celery, fleet: Fleet) -> None:
    worker = fleet.djqueue(name="direct", WORKER_DIRECT=True)
    fleet.djqueue(name="indirect")
    hostname = worker.wait_for_line(r"djq.worker.ready .*?(direct@\S+)", within=5).group(1)
    sent = [celery.send_task(tasks.describe.name, queue=worker_direct(hostname)) for _ in range(4)]
    sent += [tasks.describe.apply_async(queue=f"{hostname}.dq2") for _ in range(4)]
    assert {one.get(timeout=WAIT)["hostname"] for one in sent} == {hostname}
    assert app.control.ping(destination=[hostname], timeout=5)


def test_what_redis_keeps_for_celery_stays_readable(
    server: redis.Redis, celery: Celery, fleet: Fleet
) -> None:
    """A stock worker finds our bindings: kombu raises when a table is missing."""
    assert server.exists("_kombu.binding.media")
    sent = celery.send_task(
        tasks.add.name, (2, 3), exchange="media", routing_key="feed.x", exchange_type="topic"
    )
    assert sent.get(timeout=WAIT) == 5
