"""What a question to workers leaves in Redis: nothing, however it ends.

A reply queue is a list and a binding. Workers are played past the proxy, which stands a proxy between the
one who asks and the server cuts connections at the worst moments.
"""

from __future__ import annotations

import json
import threading
import time
from base64 import b64decode
from collections.abc import Iterator

import pytest
from kombu.messaging import Producer

from djqueue import control
from djqueue.conf import settings
from djqueue.exceptions import OperationalError
from djqueue.messaging import mailbox, questions
from djqueue.messaging.connections import connection
from djqueue.messaging.mailbox import Command, Reply
from djqueue.messaging.questions import Answer
from tests.contracts.redis.conftest import Bench
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

BINDINGS = "_kombu.binding.reply.celery.pidbox"


@pytest.fixture(autouse=True)
def asks_through_the_proxy(proxy: Proxy) -> Iterator[None]:
    with settings.override(BROKER_URL=proxy.url):
        yield


def left(bench: Bench) -> list[str]:
    """Return the lists and the bindings of reply queues that are there."""
    return [*bench.client.keys("*.reply.celery.pidbox"), *bench.client.smembers(BINDINGS)]


class Workers:
    """Reply past the proxy to whoever asks: at once in the name of one node, of others when they are told."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._commands = bench.client.pubsub(ignore_subscribe_messages=True)
        database = bench.client.connection_pool.connection_kwargs["db"]
        self._commands.subscribe(f"/{database}.celery.pidbox")
        self._command: Command | None = None
        self._thread = threading.Thread(target=self._hear)
        self._thread.start()

    def reply(self, *nodes: str) -> str:
        """Reply in the names of these nodes; return the name of the queue."""
        assert self._command is not None
        with connection(self._bench.url) as made:
            producer = Producer(made.default_channel, auto_declare=False)
            for node in nodes:
                answer = mailbox.answer(self._command, node, {"ok": "pong"})
                assert answer is not None
                mailbox.send_reply(producer, answer)
        return f"{answer.routing_key}.{answer.exchange}"

    def close(self) -> None:
        self._thread.join()
        self._commands.close()

    def _hear(self) -> None:
        heard = wait_until(self._commands.get_message, 10, "for somebody to ask")
        body = json.loads(b64decode(json.loads(heard["data"])["body"]))
        self._command = Command("ping", ticket=body["ticket"], reply_to=body["reply_to"])
        self.reply("one")


@pytest.fixture
def workers(bench: Bench) -> Iterator[Workers]:
    made = Workers(bench)
    yield made
    made.close()


def test_nothing_is_left_when_the_time_is_up(bench: Bench) -> None:
    assert control.ping(timeout=0.1) == []
    assert left(bench) == []


def test_nothing_is_left_when_more_reply_than_were_waited_for(bench: Bench, workers: Workers) -> None:
    def more_reply(answer: Answer) -> None:
        workers.reply("two", "three")

    assert control.ping(timeout=10, limit=1, callback=more_reply) == [{"one": {"ok": "pong"}}]
    assert left(bench) == []


def test_nothing_is_left_when_the_callback_raises(bench: Bench, workers: Workers) -> None:
    def fail(answer: Answer) -> None:
        workers.reply("two", "three")
        raise LookupError("by the caller")

    with pytest.raises(LookupError, match="by the caller"):
        control.ping(timeout=10, callback=fail)
    assert left(bench) == []


@pytest.mark.parametrize("request_", [BINDINGS.encode(), b"PUBLISH", b"BRPOP"])
def test_nothing_is_left_when_the_connection_breaks_while_asking(
    bench: Bench, proxy: Proxy, request_: bytes
) -> None:
    control.ping(timeout=0.1)  # from now on the server knows kombu's scripts
    proxy.lose_reply_to(request_)
    with pytest.raises(OperationalError, match="cannot be reached"):
        control.ping(timeout=10)
    assert proxy.has_lost_one
    assert left(bench) == []


@pytest.mark.parametrize("request_", [b"SREM", b"DEL"])
@pytest.mark.parametrize("is_given", [True, False])
def test_nothing_is_left_and_replies_are_kept_when_the_connection_breaks_at_the_end(
    bench: Bench, proxy: Proxy, workers: Workers, request_: bytes, is_given: bool
) -> None:
    def break_then(answer: Answer) -> None:
        workers.reply("two", "three")
        proxy.lose_reply_to(request_)

    with connection() as given:
        replies = control.ping(
            timeout=10, limit=1, callback=break_then, connection=given if is_given else None
        )
    assert proxy.has_lost_one
    assert replies == [{"one": {"ok": "pong"}}]
    assert left(bench) == []


def test_nothing_is_left_when_the_connection_breaks_while_replies_wait(
    bench: Bench, proxy: Proxy, workers: Workers
) -> None:
    def cut(answer: Answer) -> None:
        workers.reply("two", "three")
        proxy.cut()
        raise LookupError("by the caller")

    with pytest.raises(LookupError, match="by the caller"):
        control.ping(timeout=10, callback=cut)
    assert left(bench) == []


def test_the_error_of_the_caller_is_raised_though_the_broker_is_away_at_the_end(
    bench: Bench, proxy: Proxy, workers: Workers
) -> None:
    def leave(answer: Answer) -> None:
        proxy.cut(refuse=True)
        raise LookupError("by the caller")

    with pytest.raises(LookupError, match="by the caller"):
        control.ping(timeout=10, callback=leave)


def test_who_asks_is_not_held_up_by_a_server_that_falls_silent(
    bench: Bench, proxy: Proxy, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "ANSWERS_WITHIN", 1.0)
    begun = time.monotonic()
    with pytest.raises(OperationalError, match="Timeout"):
        control.ping(timeout=10, limit=1, callback=lambda answer: proxy.hole())
    assert time.monotonic() - begun < 10  # a handful of answers that do not come


def test_replies_to_one_who_is_gone_expire(bench: Bench, proxy: Proxy, workers: Workers) -> None:
    def leave(answer: Answer) -> None:
        proxy.cut(refuse=True)

    with pytest.raises(OperationalError, match="cannot be reached"):
        control.ping(timeout=10, limit=1, callback=leave)
    queue = workers.reply("two", "three")
    assert bench.client.llen(queue) == 2
    assert 0 < bench.client.pttl(queue) <= settings.CONTROL_QUEUE_EXPIRES * 1000


def test_a_worker_does_not_remember_those_it_has_replied_to(bench: Bench) -> None:
    with connection(bench.url) as made:
        producer = Producer(made.default_channel, auto_declare=False)
        mailbox.send_reply(producer, Reply("one", "pong", None, mailbox.reply_exchange().name, "client"))
        assert made.default_channel._expires == {}
