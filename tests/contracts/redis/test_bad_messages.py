"""Bad messages on the list: each becomes one dead letter with a reason, and the next good one is received.

What a stock worker would die of, or lose, is pushed to the list byte for byte; what stock accepts arrives.
Delivery promises M01 to M34, as far as they concern what is outside the body.
"""

from __future__ import annotations

import json
import random
import time
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from djqueue.core import protocol
from djqueue.messaging.delivery import Delivery, Settlement
from djqueue.messaging.transports.redis import settling
from djqueue.messaging.transports.redis.connections import Unreachable
from tests.contracts.redis.conftest import Bench, ids

GOOD = {
    "body": b64encode(b"[[2, 2], {}, {}]").decode(),
    "content-encoding": "utf-8",
    "content-type": "application/json",
    "headers": {"lang": "py", "task": "tests.add", "id": "good"},
    "properties": {
        "correlation_id": "good",
        "delivery_info": {"exchange": "", "routing_key": "default"},
        "delivery_tag": "celery",
        "body_encoding": "base64",
        "priority": 0,
    },
}


def altered(**changes: Any) -> str:
    return json.dumps({**GOOD, **changes})


def with_properties(**changes: Any) -> str:
    properties = {**GOOD["properties"], **changes}  # type: ignore[dict-item]
    return altered(properties={name: value for name, value in properties.items() if value is not ...})


BURIED: dict[str, str | bytes] = {
    "nothing at all": "",
    "not JSON": "this is not JSON",
    "half a message": json.dumps(GOOD)[:-20],
    "not even text": b"\x80\x04\x95\xff\xfe",
    "a bare number": "42",
    "an empty object": "{}",
    "a list": "[1, 2, 3]",
    "headers are a list": altered(headers=[1, 2]),
    "no body": altered(body=None),
    "the body is an object": altered(body={"args": []}),
    "base64 cut short": altered(body="W1syLCAyXSwge3"),
    "content type is a number": altered(**{"content-type": 7}),
    "nested 200,000 levels deep": "[" * 200_000 + "]" * 200_000,
    "half a character": altered(body="\ud800").replace('"base64"', '"utf-8"'),
}
RECEIVED = {
    "properties are empty": altered(properties={}, body="[[2, 2], {}, {}]"),
    "headers are null": altered(headers=None),
    "no delivery info": with_properties(delivery_info=...),
    "delivery info is null": with_properties(delivery_info=None),
    "no delivery tag": with_properties(delivery_tag=...),
    "the delivery tag is a list": with_properties(delivery_tag=[1]),
    "plain text body": with_properties(body_encoding="utf-8").replace(GOOD["body"], "[[2, 2], {}, {}]"),  # type: ignore[arg-type]
    "the priority is text": with_properties(priority="high"),
    "unknown headers": altered(headers={**GOOD["headers"], "from the future": {"x": [1]}}),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("what", BURIED)
def test_what_is_no_message_becomes_a_dead_letter(bench: Bench, what: str) -> None:
    bench.client.lpush("default", BURIED[what], json.dumps(GOOD))
    told: list[tuple[int, str]] = []
    source = bench.source()
    source.on_buried = lambda deliveries, reason: told.append((len(deliveries), reason))
    (good,) = source.receive(10)
    assert good.message.headers["id"] == "good"
    (letter,) = bench.dead_letters()
    assert letter["queue"] == "default"
    assert letter["reason"] in ("undecodable", "invalid_envelope")
    assert 0 < len(letter["detail"]) < 400
    assert told == [(1, letter["reason"])]
    assert source.settle([good.ack()]) == []
    assert bench.client.hlen("unacked") == bench.client.zcard("unacked_index") == 0


def test_the_message_itself_is_kept_in_the_dead_letter(bench: Bench) -> None:
    bench.client.lpush("default", "ünïcode {", b"\xff\x00")
    bench.source().receive(10)
    first, second = bench.dead_letters()
    assert first["message"] == "ünïcode {"
    assert second["message_base64"] == b64encode(b"\xff\x00").decode()


@pytest.mark.parametrize("what", RECEIVED)
def test_what_is_only_careless_arrives(bench: Bench, what: str) -> None:
    bench.client.lpush("default", RECEIVED[what])
    source = bench.source()
    (delivery,) = source.receive(10)
    assert delivery.message.body == b"[[2, 2], {}, {}]"
    if "task" in delivery.message.headers:
        assert protocol.read_headers(delivery.message, delivery.delivery_info()).id == "good"
    assert source.settle([delivery.release()]) == []
    (again,) = source.receive(10)
    assert again.redelivered
    assert bench.dead_letters() == []


def test_equal_delivery_tags_are_told_apart(bench: Bench) -> None:
    bench.client.lpush("default", *[json.dumps(GOOD)] * 5)
    source = bench.source()
    deliveries = source.receive(10)
    assert len({one.tag for one in deliveries}) == bench.client.hlen("unacked") == 5
    assert source.settle([one.ack() for one in deliveries]) == []


def test_bad_ones_in_plenty_do_not_hide_the_good_one_behind_them(bench: Bench) -> None:
    bench.client.lpush("default", *["bad"] * 50, json.dumps(GOOD))
    source = bench.source()
    received: list[str] = []
    for _ in range(20):
        received += ids(source.receive(10))
    assert received == ["good"]
    assert len(bench.dead_letters()) == 50


def test_dead_letters_are_kept_up_to_a_number_and_an_age(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "MOST_DEAD", 5)
    source = bench.source()
    for number in range(8):
        bench.client.lpush("default", f"bad {number}")
        source.receive(1)
    assert [letter["message"] for letter in bench.dead_letters()] == [
        f"bad {number}" for number in range(3, 8)
    ]
    assert bench.client.hlen("djq:dead") == 5
    week_ago = (time.time() - 8 * 24 * 3600) * 1000
    oldest = bench.client.zrange("djq:dead_index", 0, 1)
    bench.client.zadd("djq:dead_index", dict.fromkeys(oldest, week_ago))
    bench.client.lpush("default", "one more")
    source.receive(1)
    assert [letter["message"] for letter in bench.dead_letters()] == ["bad 5", "bad 6", "bad 7", "one more"]


def test_a_lost_connection_while_burying_loses_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.client.lpush("default", "bad", json.dumps(GOOD))
    source = bench.source()
    settle = source._settling.settle
    attempts: list[int] = []

    def fails_once(settlements: Any) -> Any:
        attempts.append(1)
        if len(attempts) == 1:
            raise Unreachable("cut")
        return settle(settlements)

    monkeypatch.setattr(source._settling, "settle", fails_once)
    assert ids(source.receive(10)) == ["good"]
    assert bench.dead_letters() == []
    source.tend(time.monotonic())
    assert len(bench.dead_letters()) == 1


ANSWERS: list[Callable[[Delivery], Settlement]] = [
    Delivery.ack,
    Delivery.release,
    lambda one: one.delay(time.time() + 60),
    lambda one: one.bury("by chance"),
]


def test_nothing_that_chance_makes_of_a_message_stops_the_source(bench: Bench) -> None:
    chance = random.Random(20)
    raw = json.dumps(GOOD).encode()
    mutants = []
    for _ in range(2000):
        mutant = bytearray(raw)
        for _ in range(chance.randint(1, 5)):
            place = chance.randrange(len(mutant))
            what = chance.choice(("flip", "cut", "double", "insert"))
            if what == "flip":
                mutant[place] = chance.randrange(256)
            elif what == "cut":
                del mutant[place : place + chance.randrange(1, 20)]
            elif what == "double":
                mutant[place:place] = mutant[place : place + chance.randrange(1, 40)]
            else:
                mutant[place:place] = bytes(chance.randrange(256) for _ in range(3))
        mutants.append(bytes(mutant))
    bench.client.lpush("default", *mutants)
    source = bench.source()
    received = 0
    for _ in range(30):
        deliveries = source.receive(100)
        received += len(deliveries)
        source.settle([chance.choice(ANSWERS)(one) for one in deliveries])
    dead = bench.client.hlen("djq:dead")
    assert dead > 0
    assert bench.client.hlen("unacked") == bench.client.zcard("unacked_index") == 0
    assert received > 100
