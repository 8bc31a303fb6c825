"""Replies that never arrive: what the server did is found out, and nothing is done twice or forgotten.

A proxy lets a request through and cuts the connection instead of the reply. Delivery promises R05 to R08.
"""

from __future__ import annotations

import threading
import time

import pytest

from djqueue.core.retrying import PublishPolicy
from djqueue.exceptions import OperationalError
from djqueue.messaging.delivery import Settlement
from djqueue.messaging.transports.redis import publishing, scripts
from djqueue.messaging.transports.redis.connections import Refused
from djqueue.messaging.transports.redis.scripts import Script
from tests.contracts.redis.conftest import Bench, ids, outgoing, receive
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until


def name(script: Script) -> bytes:
    """Return what stands in every request to run the script."""
    return script.sha.encode()


def warm_up(bench: Bench) -> None:
    """Let the server know every script, so that one request is one call."""
    for script in (scripts.PUSH, scripts.FETCH, scripts.SETTLE, scripts.RESYNC, scripts.SCHEDULE):
        bench.client.script_load(script.text)


def test_messages_whose_reply_was_lost_are_handed_out_once(bench: Bench, proxy: Proxy) -> None:
    warm_up(bench)
    bench.send("a", "b", "c")
    source = bench.source(broker=bench.broker(proxy.url))
    proxy.lose_reply_to(name(scripts.FETCH))
    with pytest.raises(OperationalError):
        source.receive(2)
    assert proxy.has_lost_one
    assert bench.client.hlen("unacked") == 2
    missed = source.receive(10)
    assert ids(missed) == ["a", "b"]
    rest = source.receive(10)
    assert ids(rest) == ["c"]
    assert source.settle([one.ack() for one in [*missed, *rest]]) == []
    assert bench.client.hlen("unacked") == 0
    assert len({one.tag for one in [*missed, *rest]}) == 3


def test_what_was_already_known_is_not_handed_out_again(bench: Bench, proxy: Proxy) -> None:
    warm_up(bench)
    bench.send("a", "b")
    source = bench.source(broker=bench.broker(proxy.url))
    known = source.receive(1)
    proxy.lose_reply_to(name(scripts.FETCH))
    with pytest.raises(OperationalError):
        source.receive(10)
    proxy.lose_reply_to(name(scripts.RESYNC))
    with pytest.raises(OperationalError):
        source.receive(10)
    assert ids(known) == ["a"]
    assert ids(source.receive(10)) == ["b"]


def test_a_late_copy_of_an_old_call_takes_nothing(bench: Bench, proxy: Proxy) -> None:
    warm_up(bench)
    bench.send("a")
    source = bench.source(broker=bench.broker(proxy.url))
    consumer, number = source._lease.consumer, source._number
    proxy.lose_reply_to(name(scripts.FETCH))
    with pytest.raises(OperationalError):
        source.receive(1)
    assert ids(source.receive(1)) == ["a"]
    bench.send("b")
    keys = source._keys
    late = [keys.unacked, keys.unacked_index, keys.own(consumer), keys.leases, keys.node(consumer), "default"]
    with pytest.raises(Refused, match="STALE"):
        source._wire.run(scripts.FETCH, late, [consumer, 1, number, ', "", "default"]'])
    assert ids(source.receive(1)) == ["b"]


def test_a_message_whose_reply_was_lost_is_sent_once(bench: Bench, proxy: Proxy) -> None:
    warm_up(bench)
    broker = bench.broker(proxy.url)
    for turn in range(3):
        proxy.lose_reply_to(b"LPUSH")  # one message is pushed without the script at first
        bench.send(f"one {turn}", broker=broker)
        assert proxy.has_lost_one
    proxy.lose_reply_to(name(scripts.PUSH))
    bench.send(*(f"many {number}" for number in range(100)), broker=broker)
    assert bench.client.llen("default") == 103
    source = bench.source()
    due = time.time() + 3600
    proxy.lose_reply_to(name(scripts.SCHEDULE))
    bench.send("later", due=due, broker=broker)
    assert bench.broker().size("default") == 104
    assert ids(source.receive(200)) == [
        *(f"one {turn}" for turn in range(3)),
        *(f"many {number}" for number in range(100)),
    ]


def test_a_message_whose_reply_was_lost_twice_is_sent_once(bench: Bench, proxy: Proxy) -> None:
    warm_up(bench)
    broker = bench.broker(proxy.url)
    proxy.lose_reply_to(b"LPUSH", name(scripts.PUSH))
    broker.send_patiently([outgoing("a")], PublishPolicy(max_retries=2))
    assert proxy.has_lost_one
    bench.send("b", broker=broker)
    assert ids(bench.source().receive(10)) == ["a", "b"]


def test_a_queue_whose_name_something_else_has_is_refused_at_once(bench: Bench) -> None:
    bench.client.set("default", "a text")
    with pytest.raises(OperationalError, match="Redis refused: WRONGTYPE"):
        bench.send("a")
    bench.client.delete("default")
    bench.send("b")
    assert ids(bench.source().receive(10)) == ["b"]


def test_an_answer_whose_reply_was_lost_is_given_once(bench: Bench, proxy: Proxy) -> None:
    warm_up(bench)
    bench.send("a", "b", "c", "d")
    source = bench.source(broker=bench.broker(proxy.url))
    a, b, c, d = source.receive(10)
    answers = [a.ack(), b.release(started=True), c.bury("rejected"), d.delay(time.time() + 3600)]
    proxy.lose_reply_to(name(scripts.SETTLE))
    with pytest.raises(OperationalError):
        source.settle(answers)
    assert proxy.has_lost_one
    assert source.settle(answers) == []
    assert [(one.message.headers["id"], one.starts) for one in source.receive(10)] == [("b", 1)]
    assert len(bench.dead_letters()) == 1
    assert bench.broker().size("default") == 1


def test_more_answers_may_come_while_one_is_unsure(bench: Bench, proxy: Proxy) -> None:
    warm_up(bench)
    bench.send("a", "b", "c")
    source = bench.source(broker=bench.broker(proxy.url))
    a, b, c = source.receive(10)
    acks = [a.ack(), b.ack()]
    proxy.lose_reply_to(name(scripts.SETTLE))
    with pytest.raises(OperationalError):
        source.settle(acks)
    all_three = [*acks, c.ack()]
    proxy.lose_reply_to(name(scripts.SETTLE))
    with pytest.raises(OperationalError):
        source.settle(all_three)
    assert source.settle(all_three) == []
    assert bench.client.hlen("unacked") == 0


def test_an_answer_that_came_too_late_is_told_even_if_the_reply_was_lost(bench: Bench, proxy: Proxy) -> None:
    warm_up(bench)
    bench.send("a", "b")
    source = bench.source(broker=bench.broker(proxy.url))
    a, b = source.receive(10)
    bench.client.hdel("unacked", a.tag)  # as a stock worker does that restores it
    acks = [a.ack(), b.ack()]
    proxy.lose_reply_to(name(scripts.SETTLE))
    with pytest.raises(OperationalError):
        source.settle(acks)
    assert source.settle(acks) == [a]


def test_connections_that_are_cut_cost_nothing_but_a_moment(bench: Bench, proxy: Proxy) -> None:
    broker = bench.broker(proxy.url, lease=5)
    source = bench.source(broker=broker)
    done: list[str] = []
    for turn in range(5):
        bench.send(f"{turn} a", f"{turn} b", broker=broker)
        held = receive(source)
        proxy.cut()
        acks = [one.ack() for one in held]

        def settled(acks: list[Settlement] = acks) -> bool:
            try:
                return source.settle(acks) == []
            except OperationalError:
                return False

        wait_until(settled, 5, "for the answers to get through")
        done += ids(held)
    assert sorted(done) == sorted(f"{turn} {one}" for turn in range(5) for one in "ab")
    assert bench.client.hlen("unacked") == 0


def test_sending_into_a_black_hole_ends_within_its_patience(
    bench: Bench, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "CONNECTING", 0.2)
    monkeypatch.setattr(publishing, "ANSWERING", 0.2)
    broker = bench.broker(proxy.url)
    bench.send("before", broker=broker)
    proxy.hole()
    begun = time.monotonic()
    policy = PublishPolicy(max_retries=None, interval_start=0.1, timeout=1.0)
    with pytest.raises(OperationalError, match="cannot be reached"):
        broker.send_patiently([outgoing("into the hole")], policy)
    assert 1.0 <= time.monotonic() - begun < 2.0
    begun = time.monotonic()
    with pytest.raises(OperationalError, match="cannot be reached"):
        broker.send_many([outgoing("into the hole")])
    assert time.monotonic() - begun < 1.0
    proxy.heal()
    proxy.cut()
    bench.send("after", broker=broker)
    assert bench.client.llen("default") == 2


def test_sending_outlives_a_server_that_is_away_for_a_moment(bench: Bench, proxy: Proxy) -> None:
    broker = bench.broker(proxy.url)
    bench.send("before", broker=broker)
    proxy.cut(refuse=True)
    sent_at = time.monotonic()
    healer = threading.Timer(0.5, proxy.heal)
    healer.start()
    broker.send_patiently([outgoing("during")], PublishPolicy(max_retries=None))
    healer.join()
    assert time.monotonic() - sent_at >= 0.5
    assert bench.client.llen("default") == 2


def test_what_is_sent_under_a_name_is_sent_once_by_whatever_process(bench: Bench) -> None:
    messages = [outgoing("a"), outgoing("b", queue="other"), outgoing("c")]
    for _ in range(3):
        bench.broker().send_once(messages, "chord:g")
    bench.broker().send_once([outgoing("d")], "chord:h")
    assert sorted(ids(bench.source("default", "other").receive(10))) == ["a", "b", "c", "d"]
