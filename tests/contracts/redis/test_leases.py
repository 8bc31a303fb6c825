"""Who is alive and who is dead: leases end, others take over, and those who come back find out.

Consumers fall silent as if their machine had gone; the server stops, forgets, or is full. Delivery promises
W03, W07, R02, R03, R11 and R20.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any

import pytest

from djqueue.exceptions import OperationalError
from djqueue.messaging import boards, machines
from djqueue.messaging.startboard import StartBoard
from djqueue.messaging.transports.redis import scripts
from djqueue.messaging.transports.redis.connections import Wire
from djqueue.messaging.transports.redis.recovery import Recovery
from djqueue.messaging.transports.redis.scripts import Script
from djqueue.messaging.transports.redis.source import RedisSource
from tests.contracts.redis.conftest import LEASE, Bench, ids, receive, receive_all
from tests.support.servers import provide
from tests.support.waiting import wait_until


def elsewhere(bench: Bench, monkeypatch: pytest.MonkeyPatch, **options: Any) -> RedisSource:
    """Return an open source that seems to be on another machine."""
    with monkeypatch.context() as patch:
        patch.setattr(machines, "this_machine", lambda: "f" * 8)
        return bench.source(**options)


def silence(source: RedisSource) -> None:
    """Let the consumer fall silent, as if its machine had lost its power."""
    source._lease.stop()
    for peeker in source._peekers:
        peeker.stop()


def test_what_a_silent_consumer_held_goes_to_others_when_its_lease_has_ended(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench.send("a", "b", priority=5)
    bench.send("c")
    gone = elsewhere(bench, monkeypatch)
    held = gone.receive(3)
    assert ids(held) == ["c", "a", "b"]
    heir = bench.source()
    bench.send("d")
    silence(gone)
    silent_since = time.monotonic()
    (newer,) = receive(heir, room=1)
    assert ids([newer]) == ["d"]
    with caplog.at_level(logging.WARNING, "djqueue"):
        taken = receive(heir)
    assert LEASE * 0.5 < time.monotonic() - silent_since < LEASE * 3
    taken += heir.receive(10)
    assert [(one.message.headers["id"], one.redelivered) for one in taken] == [
        ("c", True),
        ("a", True),
        ("b", True),
    ]
    assert f"djq.recovered n=3 started=0 from=consumer-{os.getpid()}-0" in caplog.text
    assert gone.settle([one.ack() for one in held]) == held
    assert heir.settle([one.ack() for one in [newer, *taken]]) == []
    heir.close()
    assert bench.leftovers() == set()


def test_only_what_was_begun_elsewhere_is_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.send("a", "b")
    gone = elsewhere(bench, monkeypatch)
    a, _ = gone.receive(2)
    node = f"djq:node:{gone._lease.consumer}"
    board = StartBoard.create(boards.path_of(f"consumer-{os.getpid()}-0"), 4)
    board.start(0, 1, a.tag.encode(), 1.0)
    wait_until(lambda: bench.client.hget(node, "started") == a.tag, 5, "for the lease's thread to note it")
    silence(gone)
    taken = receive(bench.source())
    assert [(one.message.headers["id"], one.starts) for one in taken] == [("a", 1), ("b", 0)]
    assert [one.message.headers.get("x-djq-unseen") for one in taken] == [None, 1]


def test_a_living_consumer_keeps_its_messages_for_ever(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.send("a")
    worker = elsewhere(bench, monkeypatch, lease=0.5)
    held = worker.receive(1)
    other = bench.source(lease=0.5)
    watched_until = time.monotonic() + 2.0

    def watched() -> bool:
        other.tend(time.monotonic())
        assert other.receive(10) == []
        return time.monotonic() > watched_until

    wait_until(watched, 5, "for four leases to go by")
    assert worker.settle([one.ack() for one in held]) == []


def test_who_comes_back_after_a_takeover_finds_out_and_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench.send("a", "b")
    paused = elsewhere(bench, monkeypatch)
    held = paused.receive(1)
    silence(paused)
    heir = bench.source()
    assert ids(receive(heir, room=1)) == ["b"]
    assert ids(receive(heir, room=1)) == ["a"]
    paused._lease._stop.clear()
    paused._lease.keep(lambda: None)
    with caplog.at_level(logging.ERROR, "djqueue"):
        bench.send("c")
        assert ids(receive(paused)) == ["c"]
    assert "djq.lease.lost held=1" in caplog.text
    assert paused.settle([one.ack() for one in held]) == held
    assert bench.client.hlen("unacked") == 3


def test_a_reaper_that_dies_half_way_leaves_the_rest_to_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.send("a", "b", "c")
    gone = elsewhere(bench, monkeypatch)
    gone.receive(3)
    reaper, heir = bench.source(), bench.source()
    silence(gone)
    monkeypatch.setattr("djqueue.messaging.transports.redis.recovery.MOST_AT_ONCE", 1)
    original = Wire.run
    calls: list[object] = []

    def run(wire: Wire, script: Script, *arguments: Any) -> Any:
        if wire is reaper._wire and script is scripts.SETTLE:
            calls.append(script)
            if len(calls) == 2:
                raise OperationalError("the reaper is killed here")
        return original(wire, script, *arguments)

    monkeypatch.setattr(Wire, "run", run)

    def is_killed() -> bool:
        try:
            reaper.tend(time.monotonic())
        except OperationalError:
            return True
        return False

    wait_until(is_killed, 10, "for the reaper to be half way")
    silence(reaper)
    assert sorted(receive_all(heir, 3)) == ["a", "b", "c"]


def test_many_reapers_at_once_move_each_message_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number:03}" for number in range(300)]
    bench.send(*names)
    gone = elsewhere(bench, monkeypatch)
    gone.receive(300)
    silence(gone)
    heirs = [bench.source() for _ in range(4)]
    wait_until(lambda: heirs[0]._lease.is_calm, 5, "for the others to be trusted")
    wait_until(
        lambda: bench.client.zscore("djq:leases", gone._lease.consumer) < time.time() * 1000, 5, "for the end"
    )
    racers = [threading.Thread(target=heir._recovery.sweep, args=[heir._lease]) for heir in heirs]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert bench.client.llen("default") == 300
    assert sorted(ids(heirs[0].receive(300))) == names


def test_a_record_that_cannot_be_read_is_buried_by_whoever_takes_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.send("good", "bad", "broken")
    gone = elsewhere(bench, monkeypatch)
    _, bad, broken = gone.receive(3)
    bench.client.hset("unacked", bad.tag, '[{"body": 1}, "", "default"]')
    bench.client.hset("unacked", broken.tag, "not even a record")
    silence(gone)
    heir = bench.source()
    assert ids(receive(heir)) == ["good"]
    assert {one["reason"] for one in bench.dead_letters()} == {"invalid_envelope", "undecodable"}
    assert bench.client.scard(f"djq:own:{gone._lease.consumer}") == 0


# The server


@pytest.mark.slow
def test_a_server_that_stops_for_longer_than_a_lease_makes_nobody_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = provide("redis")
    bench = Bench(server.url)
    try:
        bench.send("a", "b")
        options: dict[str, Any] = {"lease": 1.0, "socket_timeout": 0.5, "socket_connect_timeout": 0.5}
        one, two = elsewhere(bench, monkeypatch, **options), bench.source(**options)
        held = [*one.receive(1), *two.receive(1)]
        server.stop()
        stopped_until = time.monotonic() + 3.0

        def stopped() -> bool:
            for source in (one, two):
                with pytest.raises(OperationalError):
                    source.receive(10)
            return time.monotonic() > stopped_until

        wait_until(stopped, 20, "for some leases to end")
        server.cont()
        watched_until = time.monotonic() + 2.0

        def watched() -> bool:
            for source in (one, two):
                try:
                    source.tend(time.monotonic())
                    assert source.receive(10) == []
                except OperationalError:
                    continue
            return time.monotonic() > watched_until

        wait_until(watched, 20, "for them to look at each other")
        assert one.settle([held[0].ack()]) == []
        assert two.settle([held[1].ack()]) == []
    finally:
        server.cont()
        bench.close()
        server.close()


def test_a_clock_that_is_set_forward_makes_nobody_dead(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.send("a")
    worker = elsewhere(bench, monkeypatch, lease=2.0)
    worker.receive(1)
    other = bench.source(lease=2.0)
    wait_until(lambda: other._lease.is_calm, 5, "for the other to be trusted")
    # What the other sees when the clock was set: every lease seems to have ended long ago.
    bench.client.zadd("djq:leases", {worker._lease.consumer: 1.0})
    showed, seen_at = other._lease._clock
    other._lease._clock = (showed - 3_600_000, seen_at)
    assert Recovery(other._wire, other._keys, "x").sweep(other._lease) == 0
    assert bench.client.zscore("djq:leases", worker._lease.consumer) is not None


def test_a_server_that_lost_everything_is_noticed_and_consumed_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.send("a", "b")
    source = bench.source()
    held = source.receive(1)
    bench.client.flushall()
    with caplog.at_level(logging.ERROR, "djqueue"):
        bench.send("c")
        assert ids(receive(source)) == ["c"]
    assert "djq.broker.data_loss held=1" in caplog.text
    assert source.settle([one.ack() for one in held]) == held


def test_scripts_and_connections_that_are_gone_are_made_again(bench: Bench) -> None:
    broker = bench.broker(lease=LEASE)
    source = bench.source(broker=broker)
    for spoil in (
        bench.client.script_flush,
        lambda: bench.client.client_kill_filter(_type="normal", skipme=True),
        lambda: bench.client.config_resetstat(),
    ):
        spoil()
        bench.send("a", broker=broker)
        (delivery,) = receive(source)
        assert source.settle([delivery.ack()]) == []


def test_a_full_server_refuses_at_once_and_is_drained(bench: Bench) -> None:
    broker = bench.broker(lease=LEASE)
    bench.send("a", "b", "c", "d", "e", broker=broker)
    source = bench.source(broker=broker)
    first = source.receive(1)
    bench.client.config_set("maxmemory", "1mb")
    try:
        begun = time.monotonic()
        with pytest.raises(OperationalError, match="memory is full"):
            bench.send("too much", broker=broker)
        assert time.monotonic() - begun < 1
        lease_end = bench.client.zscore("djq:leases", source._lease.consumer)
        b, c, d, e = source.receive(10)
        answers = [b.release(started=True), c.delay(time.time() + 1.2), d.bury("rejected"), e.ack()]
        assert source.settle([*[one.ack() for one in first], *answers]) == []
        wait_until(
            lambda: bench.client.zscore("djq:leases", source._lease.consumer) > lease_end, 5, "for renewals"
        )
        late = bench.source(broker=broker)
        taken = receive(source) + receive(late)
        assert sorted(ids(taken)) == ["b", "c"]
        source.close()
        late.close()
        assert bench.client.llen("default") == 2
    finally:
        bench.client.config_set("maxmemory", "0")
    bench.send("again", broker=broker)
    assert ids(bench.source().receive(10))[-1] == "again"


def test_a_consumer_leaves_although_its_connections_have_died_unnoticed(bench: Bench) -> None:
    bench.send("a")
    source = bench.source()
    assert ids(receive(source)) == ["a"]
    bench.client.client_kill_filter(_type="normal", skipme=True)
    source.close()
    assert bench.client.keys("djq:leases") == bench.client.keys("djq:machine:*") == []
    assert bench.client.llen("default") == 1
