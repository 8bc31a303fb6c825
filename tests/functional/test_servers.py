"""Tests of the servers that tests run on: they come up, are ours, survive kills, and leave nothing.

The kinds of `tests.support.servers` come in; each is started for real where its binary is installed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
import redis

from tests.support.servers import KINDS, PrivateRedis, Server, provide


@pytest.fixture
def private_redis() -> Iterator[PrivateRedis]:
    if not PrivateRedis.binary():
        provide("redis")
        pytest.skip("This test breaks the server; it needs redis-server on PATH.")
    with closing(PrivateRedis()) as server:
        yield server


def test_a_killed_redis_comes_back_with_its_data_or_without(private_redis: PrivateRedis) -> None:
    with redis.Redis.from_url(private_redis.url) as client:
        client.set("kept", "yes")
        private_redis.restart()
        assert client.get("kept") == b"yes"
        private_redis.restart(keep_data=False)
        assert client.get("kept") is None


def test_a_stopped_redis_keeps_the_caller_waiting_until_it_goes_on(private_redis: PrivateRedis) -> None:
    with redis.Redis.from_url(private_redis.url, socket_timeout=10) as client:
        client.ping()
        private_redis.stop()
        answered = threading.Event()

        def call() -> None:
            client.ping()
            answered.set()

        caller = threading.Thread(target=call)
        caller.start()
        assert not answered.wait(0.2)
        private_redis.cont()
        caller.join(5)
        assert answered.is_set()


def test_a_named_server_is_used_and_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJQUEUE_TEST_REDIS_URL", "redis://127.0.0.1:1/0")
    server = provide("redis")
    assert server.url == "redis://127.0.0.1:1/0"
    with pytest.raises(pytest.skip.Exception, match="not ours to be killed"):
        server.kill()
    server.close()


def test_a_missing_server_skips_on_a_laptop_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DJQUEUE_TEST_REDIS_URL", raising=False)
    monkeypatch.setattr(PrivateRedis, "program", "no-such-program")
    monkeypatch.setitem(KINDS, "redis", (*KINDS["redis"][:2], 1, *KINDS["redis"][3:]))
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception, match="apt-get install redis-server, or name one by"):
        provide("redis")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install redis-server, or name one by"):
        provide("redis")


def test_postgres_and_rabbit_start_for_a_run(postgres_server: Server, amqp_server: Server) -> None:
    assert postgres_server.url.startswith("postgres://")
    assert amqp_server.url.startswith("amqp://")
