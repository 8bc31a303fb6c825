"""Every way in to a Redis, and servers that a worker must not use, or must wait for.

Private servers with sockets, certificates, users, replicas and sentinels. Delivery promises R10 to R13, Z23,
Z24 and Z28.
"""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from djqueue.conf import settings
from djqueue.core.registry import tasks
from djqueue.exceptions import ImproperlyConfigured, OperationalError
from djqueue.messaging.connections import connection
from djqueue.messaging.transports.redis.broker import RedisBroker
from djqueue.messaging.transports.redis.connections import Refused, Server
from djqueue_results.backends.redis import RedisBackend
from tests.contracts.redis.conftest import LEASE, Bench, ids, outgoing, receive
from tests.support.results import document
from tests.support.servers import PrivateRedis, free_port, missing
from tests.support.waiting import wait_until

Launch = Callable[..., "Special"]


class Special:
    """A Redis with options of its own."""

    def __init__(self, directory: Path, *options: str, port: int | None = None, mode: str = "") -> None:
        self.port = free_port() if port is None else port
        self.directory = directory
        directory.mkdir(exist_ok=True)
        program = PrivateRedis.binary()
        if program is None:
            missing("No redis-server: apt-get install redis-server.")
        config = directory / "redis.conf"
        config.write_text("".join(f"{line}\n" for line in options))
        words = [program, str(config), "--port", str(self.port), "--bind", "127.0.0.1"]
        words += ["--dir", str(directory), *([mode] if mode else ["--save", "", "--appendonly", "no"])]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def wait(self, client: redis.Redis) -> None:
        """Wait until it answers."""

        def answers() -> bool:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

        wait_until(answers, 10, "for the server to answer")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    launched: list[Special] = []

    def start(*options: str, **more: Any) -> Special:
        launched.append(Special(tmp_path / f"server-{len(launched)}", *options, **more))
        return launched[-1]

    yield start
    for one in launched:
        one.kill()


def works(url: str, **options: Any) -> None:
    """Send, receive, settle, store, wait and fetch at this address."""
    broker = RedisBroker(url, options)
    source = broker.source(["default"], "worker")
    source.open(lambda fileobj, callback: None, lambda: None)
    try:
        broker.send_many([outgoing("a"), outgoing("b", due=time.time() + 60)])
        (delivery,) = source.receive(10)
        assert source.settle([delivery.bury("rejected")]) == []
        source.tend(time.monotonic())
        assert broker.size("default") == 1
        broker.remember_revoked(["c"])
        assert [task_id for task_id, _ in broker.revoked_since(0.0)] == ["c"]
        assert len(broker.delayed(["default"], 10)) == 1
        assert broker.purge("default") == 1
        store = RedisBackend(url, **options)
        store.store_many([document("a", value=7)])
        found = store.wait("a", timeout=5)
        assert found is not None
        assert found.value() == 7
        store.forget_many(["a"])
        store.close()
    finally:
        source.close()
        broker.close()


def test_by_unix_socket(launch: Launch, tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    server = launch(f"unixsocket {path}", "requirepass secret", port=0)
    server.wait(redis.Redis(unix_socket_path=str(path), password="secret"))
    works(f"redis+socket://:secret@{path}?virtual_host=3")


def test_by_tls_with_the_certificate_verified(launch: Launch, certificates: Path) -> None:
    port = free_port()
    server = launch(
        f"tls-port {port}",
        f"tls-cert-file {certificates}/server.crt",
        f"tls-key-file {certificates}/server.key",
        f"tls-ca-cert-file {certificates}/ca.crt",
        "tls-auth-clients no",
        port=0,
    )
    server.wait(redis.Redis(port=port, ssl=True, ssl_cert_reqs="none"))
    works(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificates}/ca.crt")
    works(f"redis://127.0.0.1:{port}/0", ssl={"ssl_ca_certs": f"{certificates}/ca.crt"})
    works(f"rediss://127.0.0.1:{port}/0?ssl_cert_reqs=CERT_NONE")
    with settings.override(
        BROKER_URL=f"redis://127.0.0.1:{port}/0", BROKER_USE_SSL={"ca_certs": f"{certificates}/ca.crt"}
    ):
        assert RedisBroker(settings.BROKER_URL).size("default") == 0
        with connection() as remote:  # that of remote control and events
            assert remote.default_channel.client.ping()
    with pytest.raises(OperationalError, match=r"(?i)certificate"):
        RedisBroker(f"rediss://127.0.0.1:{port}/0", {}).size("default")
    with pytest.raises(OperationalError, match=r"(?i)match"):
        RedisBroker(f"rediss://localhost:{port}/0?ssl_ca_certs={certificates}/ca.crt", {}).size("default")


#: what a user needs for sending, working and results, and nothing else
COMMANDS = (
    *("evalsha", "script|load", "blmove", "exists", "lpush", "rpush", "rpop", "llen", "del", "select"),
    *("hset", "hget", "hmget", "hdel", "sadd", "srem", "smembers", "scard", "time", "pexpire"),
    *("zadd", "zrem", "zscore", "zcount", "zcard", "zrange", "zscan", "zrangebyscore", "zremrangebyscore"),
    *("get", "set", "mget", "getrange", "publish", "subscribe", "unsubscribe", "multi", "exec", "info"),
)


def test_by_a_user_who_may_do_only_what_is_needed(launch: Launch) -> None:
    rules = " ".join(f"+{command}" for command in COMMANDS)
    server = launch(f"user worker on >pw ~shop:* &shop:* {rules}", "user default off")
    wait_until(lambda: _listens(server.port), 10, "for the server to listen")
    works(f"redis://worker:pw@127.0.0.1:{server.port}/0", global_keyprefix="shop:")
    with pytest.raises(Refused, match=r"(?i)permission"):
        RedisBroker(f"redis://worker:pw@127.0.0.1:{server.port}/0", {}).send_many([outgoing("a")])
    begun = time.monotonic()
    for wrong in ("redis://worker:no@", "redis://"):
        with pytest.raises(OperationalError, match=r"(?i)auth|password|permission"):
            RedisBroker(f"{wrong}127.0.0.1:{server.port}/0", {}).send_many([outgoing("a")])
    assert time.monotonic() - begun < 2, "a wrong password is not tried again"


def _listens(port: int) -> bool:
    try:
        redis.connection.Connection(port=port).connect()
    except redis.exceptions.AuthenticationError:
        return True
    except redis.exceptions.ConnectionError:
        return False
    return True


def test_where_info_is_not_allowed_the_worker_goes_ahead_and_says_so(
    launch: Launch, caplog: pytest.LogCaptureFixture
) -> None:
    server = launch("user worker on >pw ~* &* +@all -info")
    wait_until(lambda: _listens(server.port), 10, "for the server to listen")
    with caplog.at_level(logging.WARNING, "djqueue"):
        works(f"redis://worker:pw@127.0.0.1:{server.port}/0")
    assert "djq.broker.unchecked" in caplog.text


def test_a_demoted_server_is_waited_for(launch: Launch) -> None:
    server = launch()
    bench = Bench(f"redis://127.0.0.1:{server.port}/0")
    server.wait(bench.client)
    try:
        broker = bench.broker(lease=5)
        source = bench.source(broker=broker)
        bench.send("a", "b", broker=broker)
        (held,) = source.receive(1)
        bench.client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
        ack = [held.ack()]
        for refused in (lambda: source.receive(1), lambda: source.settle(ack)):
            with pytest.raises(Refused) as caught:
                refused()
            assert caught.value.is_temporary
        bench.client.execute_command("REPLICAOF", "NO", "ONE")
        assert source.settle(ack) == []
        assert ids(receive(source)) == ["b"]
    finally:
        bench.close()


@pytest.mark.slow
def test_sentinels_lead_to_whoever_is_master_now(launch: Launch) -> None:
    master = launch("repl-diskless-sync-delay 0")
    replica = launch("repl-diskless-sync-delay 0", f"replicaof 127.0.0.1 {master.port}")
    sentinel = launch(
        f"sentinel monitor mine 127.0.0.1 {master.port} 1",
        # Only who is killed is down: on a busy machine a living master is silent for longer than the 500 ms
        # below, and a failover before its time takes what the test has sent.
        "sentinel down-after-milliseconds mine 60000",
        "sentinel failover-timeout mine 2000",
        mode="--sentinel",
    )
    for one in (master, replica, sentinel):
        one.wait(redis.Redis(port=one.port))
    asked = redis.Redis(port=sentinel.port, decode_responses=True)
    wait_until(lambda: asked.sentinel_slaves("mine"), 20, "for the sentinel to know the replica")
    url, options = f"sentinel://127.0.0.1:{sentinel.port}/0", {"master_name": "mine"}
    works(url, **options)
    broker = RedisBroker(url, options)
    broker.send_many([outgoing("before")])
    followed = redis.Redis(port=replica.port)

    def follows() -> bool:
        # One message may as well be one of those before, while the replica is behind.
        return [b'"before"' in raw for raw in followed.lrange("default", 0, -1)] == [True]

    wait_until(follows, 10, "for the replica to follow")
    master.kill()
    asked.sentinel_set("mine", "down-after-milliseconds", 500)

    def is_sent() -> bool:
        try:
            broker.send_many([outgoing("after")])
        except OperationalError:
            return False
        return True

    wait_until(is_sent, 40, "for the failover")
    asked.sentinel_set("mine", "down-after-milliseconds", 60_000)
    wait_until(lambda: not asked.sentinel_master("mine")["is_sdown"], 10, "for the new master to be up")
    assert broker.size("default") == 2
    assert followed.llen("default") == 2
    broker.close()


# Servers that a worker must not use


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random"])
def test_a_server_that_throws_queues_away_is_refused(bench: Bench, policy: str) -> None:
    bench.client.config_set("maxmemory-policy", policy)
    try:
        with pytest.raises(ImproperlyConfigured, match=f"{policy}.*noeviction"):
            bench.source()
        bench.source(allow_eviction=True)
    finally:
        bench.client.config_set("maxmemory-policy", "noeviction")


def test_a_server_that_throws_away_results_only_is_warned_of(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.client.config_set("maxmemory-policy", "volatile-lru")
    try:
        with caplog.at_level(logging.WARNING, "djqueue"):
            bench.source()
    finally:
        bench.client.config_set("maxmemory-policy", "noeviction")
    assert "djq.broker.eviction policy=volatile-lru" in caplog.text


def test_a_server_that_is_too_old_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Server.call

    def old(self: Server, *command: Any) -> Any:
        return b"redis_version:6.0.16\r\n" if command == ("INFO", "server") else call(self, *command)

    monkeypatch.setattr(Server, "call", old)
    with pytest.raises(ImproperlyConfigured, match=r"version 6\.0\.16; djqueue needs 6\.2"):
        bench.source()


def test_two_projects_do_not_meet_by_accident(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def become(*names: str) -> None:
        tasks.clear()
        tasks.update(dict.fromkeys(names))

    become("shop.tasks.sell", "celery.backend_cleanup")
    bench.source("default", "mails")
    become("shop.tasks.sell", "billing.tasks.remind")
    bench.source("default")
    become("blog.tasks.publish", "celery.backend_cleanup")
    with pytest.raises(ImproperlyConfigured, match=r"'default'.*billing, shop.*blog.*global_keyprefix"):
        bench.source("default")
    bench.source("posts")
    bench.source("default", global_keyprefix="blog:")
    bench.source("default", share_queues=True)


# Being woken


@pytest.mark.parametrize("priority", [0, 3, 9])
def test_a_message_of_any_priority_wakes(bench: Bench, priority: int) -> None:
    woken: list[float] = []
    source = bench.broker(lease=LEASE).source(["one", "two"], "sleeper")
    source.open(lambda fileobj, callback: None, lambda: woken.append(time.monotonic()))
    try:
        assert source.receive(1) == []
        woken.clear()
        sent_at = time.monotonic()
        bench.send("a", queue="two", priority=priority)
        wait_until(lambda: woken, 5, "to be woken")
        assert woken[0] - sent_at < (0.4 if priority == 0 else 1.0)
        assert ids(source.receive(1)) == ["a"]
    finally:
        source.close()


def test_nobody_is_woken_again_and_again_by_what_it_has_no_room_for(bench: Bench) -> None:
    woken: list[float] = []
    source = bench.broker(lease=LEASE).source(["default"], "sleeper")
    source.open(lambda fileobj, callback: None, lambda: woken.append(time.monotonic()))
    try:
        assert source.receive(5) == []
        bench.send("a", "b", "c")
        wait_until(lambda: woken, 5, "to be woken")
        assert ids(source.receive(1)) == ["a"]
        watched_until = time.monotonic() + 1.5
        wait_until(lambda: time.monotonic() > watched_until, 5, "and see")
        assert len(woken) <= 2
    finally:
        source.close()


def test_many_queues_share_the_last_threads(bench: Bench) -> None:
    woken: list[float] = []
    queues = [f"queue-{number}" for number in range(30)]
    source = bench.broker(lease=LEASE).source(queues, "sleeper")
    source.open(lambda fileobj, callback: None, lambda: woken.append(time.monotonic()))
    try:
        assert len(source._peekers) == 8
        for queue in (queues[0], queues[7], queues[29]):
            assert source.receive(1) == []
            woken.clear()
            bench.send("a", queue=queue)
            wait_until(lambda: woken, 5, f"to be woken for {queue}")
            (delivery,) = source.receive(1)
            assert delivery.queue == queue
    finally:
        source.close()


def test_no_queue_starves_beside_a_long_one(bench: Bench) -> None:
    bench.send(*(str(number) for number in range(200)), queue="long")
    bench.send("short", queue="short")
    source = bench.source("long", "short")
    assert "short" in ids(source.receive(20)) + ids(source.receive(20))


@pytest.mark.parametrize(
    ("strategy", "expected"), [("priority", ["b", "a", "c"]), ("sorted", ["a", "b", "c"])]
)
def test_queues_can_have_an_order(bench: Bench, strategy: str, expected: list[str]) -> None:
    for queue in ("c", "a", "b"):
        bench.send(queue, queue=queue)
    source = bench.source("b", "a", "c", queue_order_strategy=strategy)
    assert ids(source.receive(10)) == expected


@pytest.mark.parametrize(("limit", "kept"), [(0, 0), (2, 2), (10, 4)])
def test_a_process_keeps_as_many_connections_for_sending_as_it_may(
    bench: Bench, limit: int, kept: int
) -> None:
    name = f"sender-{uuid4().hex}"
    with settings.override(BROKER_POOL_LIMIT=limit):
        broker = bench.broker(client_name=name)
    all_at_once = threading.Barrier(4)

    def send(number: int) -> None:
        all_at_once.wait()
        for turn in range(20):
            bench.send(f"{number}-{turn}", broker=broker)

    senders = [threading.Thread(target=send, args=[number]) for number in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()

    def connected() -> int:
        return sum(one["name"] == name for one in bench.client.client_list())

    wait_until(lambda: connected() <= kept, 5, "for the others to be closed")
    assert bench.client.llen("default") == 80
