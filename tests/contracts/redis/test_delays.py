"""Messages for later: where they wait, who moves them, and that none of them is ever nowhere.

Stock workers cannot see what we keep, so it is kept only while one of us consumes the queue. Delivery
promises L02, L03 and decision 12.
"""

from __future__ import annotations

import time

import pytest

from djqueue.conf import settings
from tests.contracts.redis.conftest import Bench, ids, outgoing, receive, receive_all
from tests.support.waiting import wait_until


def test_without_a_consumer_it_waits_in_the_list_as_celery_leaves_it(bench: Bench) -> None:
    bench.send("a", due=time.time() + 3600, eta="2030-01-01T00:00:00+00:00")
    assert bench.client.llen("default") == 1
    (delivery,) = bench.source().receive(10)
    assert delivery.message.headers["eta"] == "2030-01-01T00:00:00+00:00"


def test_with_a_consumer_it_is_kept_by_its_moment(bench: Bench) -> None:
    bench.source()
    due = time.time() + 3600
    bench.send("a", "b", due=due, priority=5)
    assert bench.client.keys("default*") == []
    key = "djq:delayed:default\x06\x163"
    kept = bench.client.zrange(key, 0, -1, withscores=True)
    assert [round(score) for _, score in kept] == [round(due * 1000)] * 2
    assert bench.client.smembers("djq:delayed_lists") == {"default\x06\x163"}


def test_a_consumer_of_another_queue_does_not_count(bench: Bench) -> None:
    bench.source("other")
    bench.send("a", due=time.time() + 3600)
    assert bench.client.llen("default") == 1


def test_a_silent_consumer_does_not_count_once_its_lease_has_ended(bench: Bench) -> None:
    source = bench.source(lease=0.5)
    source._lease.stop()
    consumer = source._lease.consumer
    wait_until(
        lambda: bench.client.zscore("djq:consumers:default", consumer) < time.time() * 1000, 5, "for the end"
    )
    bench.send("a", due=time.time() + 3600)
    assert bench.client.llen("default") == 1


def test_any_consumer_moves_what_is_due_for_all(bench: Bench) -> None:
    sleeper, other = bench.source("default"), bench.source("other")
    due = time.time() + 1.2
    bench.send("a", due=due)

    def is_moved() -> bool:
        other.tend(time.monotonic())
        return bench.client.llen("default") == 1

    wait_until(is_moved, 5, "for the other to move it")
    assert time.time() >= due - 0.05
    assert bench.client.smembers("djq:delayed_lists") == set()
    assert ids(sleeper.receive(1)) == ["a"]


def test_what_is_due_comes_within_a_second(bench: Bench) -> None:
    source = bench.source()
    due = time.time() + 1.3
    bench.send(*(str(number) for number in range(50)), due=due)
    receive_all(source, 50)
    assert due - 0.05 <= time.time() < due + 1.0


def test_two_who_move_at_once_move_each_once(bench: Bench) -> None:
    one, two = bench.source(), bench.source()
    held = one.receive(1)
    assert held == []
    bench.send(*(str(number) for number in range(800)), due=time.time() + 1.1)
    received: list[str] = []

    def has_all() -> bool:
        for source in (one, two):
            source.tend(time.monotonic())
            received.extend(ids(source.receive(100)))
        return len(received) >= 800

    wait_until(has_all, 10, "for all of them")
    assert sorted(received, key=int) == [str(number) for number in range(800)]


def test_equal_messages_stay_two(bench: Bench) -> None:
    raw = '{"body": "[[], {}, {}]", "headers": {"task": "tests.add", "id": "twin"}, "properties": {}}'
    bench.client.lpush("default", raw, raw)
    source = bench.source()
    twins = source.receive(2)
    assert source.settle([one.delay(time.time() + 1.1) for one in twins]) == []
    assert bench.broker().size("default") == 2
    assert receive_all(source, 2) == ["twin", "twin"]


def test_when_the_last_consumer_leaves_what_waits_goes_into_the_lists(bench: Bench) -> None:
    first, last = bench.source(), bench.source()
    bench.send(*(str(number) for number in range(1200)), due=time.time() + 3600)
    bench.send("urgent", due=time.time() + 3600, priority=9)
    first.close()
    assert bench.client.llen("default") == 0
    last.close()
    assert bench.client.llen("default") == 1200
    assert bench.client.llen("default\x06\x169") == 1
    assert bench.client.exists("djq:delayed:default") == 0
    assert bench.client.smembers("djq:delayed_lists") == set()


def test_a_moment_that_is_past_by_the_servers_clock_does_not_make_anybody_spin(bench: Bench) -> None:
    bench.send("a")
    source = bench.source()
    put_off_at = time.monotonic()
    for _ in range(2):
        (delivery,) = receive(source)
        source.settle([delivery.delay(time.time() - 3600)])
    receive(source)
    assert time.monotonic() - put_off_at >= 2.0


def test_purging_takes_what_waits_for_its_moment_too(bench: Bench) -> None:
    bench.source()
    bench.send("a", "b", due=time.time() + 3600)
    bench.send("c", due=time.time() + 3600, priority=9)
    bench.send("d")
    broker = bench.broker()
    assert broker.size("default") == 4
    assert broker.purge("default") == 4
    assert broker.size("default") == 0
    assert bench.client.smembers("djq:delayed_lists") == set()


@pytest.mark.parametrize("due_in", [-5.0, 0.0, 0.9])
def test_what_is_due_now_or_very_soon_is_sent_at_once(bench: Bench, due_in: float) -> None:
    bench.source()
    bench.broker().send_many([outgoing("a", due=time.time() + due_in)])
    assert bench.client.llen("default") == 1


# What people ask and say about messages that wait


def test_what_waits_can_be_looked_at_soonest_first(bench: Bench) -> None:
    bench.source("default", "mails")
    now = time.time()
    bench.send("later", due=now + 300, priority=5)
    bench.send("soon", due=now + 100)
    bench.send("mail", due=now + 200, queue="mails")
    bench.client.zadd("djq:delayed:default", {"not a message": (now + 50) * 1000})
    broker = bench.broker()
    found = broker.delayed(["default", "mails", "unknown"], 10)
    assert [(queue, message.headers["id"]) for _, queue, message in found] == [
        ("default", "soon"),
        ("mails", "mail"),
        ("default", "later"),
    ]
    assert [due for due, _, _ in found] == pytest.approx([now + 100, now + 200, now + 300], abs=0.001)
    assert len(broker.delayed(["default", "mails"], 2)) == 2


def test_revocations_are_kept_with_their_moment(bench: Bench) -> None:
    broker = bench.broker()
    began = time.time()
    broker.remember_revoked(["a", "b"])
    broker.remember_revoked(["b", "ünï"])
    found = broker.revoked_since(0.0)
    assert sorted(task_id for task_id, _ in found) == ["a", "b", "ünï"]
    assert all(abs(when - began) < 5 for _, when in found)
    assert broker.revoked_since(time.time() + 5) == []
    with settings.override(WORKER_REVOKES_MAX=1):
        assert [task_id for task_id, _ in broker.revoked_since(0.0)] == ["ünï"]
    bench.client.zadd("djq:revoked", {"a": began - settings.REVOCATION_EXPIRES - 10})
    assert "a" not in dict(broker.revoked_since(0.0))
    broker.remember_revoked(["c"])
    assert bench.client.zscore("djq:revoked", "a") is None


@pytest.mark.parametrize("task_id", ["plain", "with * and [brackets]?", 'with "quotes" and \\', "ünï"])
def test_what_waits_and_is_revoked_comes_at_once(bench: Bench, task_id: str) -> None:
    source = bench.source()
    bench.send(task_id, "other", due=time.time() + 3600, priority=3)
    bench.broker().remember_revoked([task_id])
    assert ids(receive(source)) == [task_id]
    assert bench.broker().size("default") == 1


def test_a_thousand_revocations_at_once_search_nothing(bench: Bench) -> None:
    bench.source()
    bench.send("0", due=time.time() + 3600)
    bench.broker().remember_revoked([str(number) for number in range(1000)])
    assert len(bench.broker().revoked_since(0.0)) == 1000
    assert bench.broker().size("default") == 1
