"""Envelopes as kombu writes them, and what other people's clients make of that.

Golden envelopes are those of a stock Celery; what is broken becomes `Unreadable` with a reason, and whatever
stock accepts is accepted.
"""

from __future__ import annotations

import json
from base64 import b64encode
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.connection import Connection
from kombu.message import Message

from djqueue.core.messages import Destination, WireMessage
from djqueue.core.serialization import LARGEST
from djqueue.messaging.delivery import Delivery
from djqueue.messaging.transports.redis import envelope
from djqueue.messaging.transports.redis.envelope import Unreadable, from_record, record_ending, redelivered

BODY = b'[[2, 2], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
PLACE = Destination("", "default", "default")


def message(**properties: Any) -> WireMessage:
    """Return a message as the protocol makes it."""
    standard = {"correlation_id": "the-id", "reply_to": "the-oid", "delivery_mode": 2, "priority": 0}
    return WireMessage({"task": "add", "id": "the-id"}, {**standard, **properties}, BODY)


def read(raw: bytes | dict[str, Any]) -> Delivery:
    return envelope.read(raw if isinstance(raw, bytes) else json.dumps(raw).encode(), "tag:1", "default")


def minimal(**changes: Any) -> dict[str, Any]:
    """Return what a careless client sends; None takes a key away."""
    whole = {"body": "[[2, 2], {}, {}]", "headers": {"task": "add", "id": "a"}, "properties": {}, **changes}
    return {name: value for name, value in whole.items() if value is not ...}


def test_the_envelope_has_kombus_keys_in_kombus_order() -> None:
    written = json.loads(envelope.write(message(), PLACE))
    assert list(written) == ["body", "content-encoding", "content-type", "headers", "properties"]
    assert written["body"] == b64encode(BODY).decode()
    assert written["headers"] == {"task": "add", "id": "the-id"}
    tag = written["properties"].pop("delivery_tag")
    assert len(tag) == 36
    assert list(written["properties"].items()) == [
        ("correlation_id", "the-id"),
        ("reply_to", "the-oid"),
        ("delivery_mode", 2),
        ("delivery_info", {"exchange": "", "routing_key": "default"}),
        ("priority", 0),
        ("body_encoding", "base64"),
    ]


def test_the_bytes_are_those_that_kombu_makes() -> None:
    ours = envelope.write(message(priority=5, expiration="60000"), PLACE)
    with Connection("memory://") as connection:
        channel = connection.channel()
        theirs = channel.prepare_message(
            BODY,
            priority=5,
            content_type="application/json",
            content_encoding="utf-8",
            headers={"task": "add", "id": "the-id"},
            properties={
                "correlation_id": "the-id",
                "reply_to": "the-oid",
                "delivery_mode": 2,
                "expiration": "60000",
            },
        )
        channel._inplace_augment_message(theirs, "", "default")
    written = json.loads(ours)
    theirs["properties"]["delivery_tag"] = written["properties"]["delivery_tag"]
    assert json.loads(json.dumps(theirs)) == written


def test_kombu_reads_what_we_write() -> None:
    with Connection("memory://") as connection:
        read_by_kombu = Message(channel=connection.channel(), **_as_kombu(envelope.write(message(), PLACE)))
    assert read_by_kombu.payload == json.loads(BODY)
    assert read_by_kombu.headers == {"task": "add", "id": "the-id"}


def _as_kombu(raw: bytes) -> dict[str, Any]:
    payload = json.loads(raw)
    return {
        "body": BODY,
        "delivery_tag": payload["properties"]["delivery_tag"],
        "content_type": payload["content-type"],
        "content_encoding": payload["content-encoding"],
        "headers": payload["headers"],
        "properties": payload["properties"],
    }


def test_a_message_survives_the_way() -> None:
    sent = message(priority=7, expiration="1", **{'odd "name"': [1, {"a": None}]})
    received = read(envelope.write(sent, Destination("media", "video.large", "default")))
    assert received.message == sent
    assert (received.exchange, received.routing_key, received.queue) == ("media", "video.large", "default")
    assert (received.starts, received.redelivered) == (0, False)


@given(st.binary(max_size=200), st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=5))
def test_any_body_and_any_text_survive_the_way(body: bytes, headers: dict[str, str]) -> None:
    sent = WireMessage({**headers, "id": "x"}, {"correlation_id": "x", "priority": 3}, body)
    assert read(envelope.write(sent, PLACE)).message == sent


@pytest.mark.parametrize(
    "raw",
    [
        minimal(),
        minimal(properties=...),
        minimal(properties=None),
        minimal(headers=..., body='{"task": "add", "id": "a"}'),
        minimal(headers=None, body='{"task": "add", "id": "a"}'),
        minimal(properties={"body_encoding": "utf-8"}),
        minimal(properties={"body_encoding": "base64"}, body=b64encode(BODY).decode()),
        minimal(properties={"delivery_info": None, "delivery_tag": 7}),
        minimal(properties={"delivery_info": [1]}),
        minimal(properties={"delivery_info": {"exchange": None, "routing_key": 3, "priority": "high"}}),
        minimal(**{"content-type": None, "content-encoding": None, "unknown": [1, 2]}),
        minimal(headers={"task": "add", "id": "a", "x-delivery-count": "many", "redelivered": None}),
    ],
)
def test_what_careless_clients_leave_out_is_filled_in(raw: dict[str, Any]) -> None:
    delivery = read(raw)
    assert delivery.message.content_type == "application/json"
    assert (delivery.exchange, delivery.routing_key, delivery.starts) == ("", "default", 0)
    assert json.loads(delivery.message.body)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "undecodable"),
        (b"not json", "undecodable"),
        (b'{"body": "', "undecodable"),
        (b"\xff\xfe\x00", "undecodable"),
        (b"[" * 200_000 + b"]" * 200_000, "undecodable"),
        (b'{"a": ' * 600 + b"1" + b"}" * 600, "undecodable"),
        (b"42", "invalid_envelope"),
        (b"null", "invalid_envelope"),
        (b'"text"', "invalid_envelope"),
        (b"[]", "invalid_envelope"),
        (b"{}", "invalid_envelope"),
        (minimal(headers=[1]), "invalid_envelope"),
        (minimal(headers="text"), "invalid_envelope"),
        (minimal(properties=[1]), "invalid_envelope"),
        (minimal(body=...), "invalid_envelope"),
        (minimal(body=None), "invalid_envelope"),
        (minimal(body={"task": "add"}), "invalid_envelope"),
        (minimal(body="a", properties={"body_encoding": "base64"}), "undecodable"),
        (minimal(body="ünï", properties={"body_encoding": "base64"}), "undecodable"),
        (minimal(body="\ud800"), "undecodable"),
        (minimal(**{"content-type": 5}), "invalid_envelope"),
        (minimal(**{"content-encoding": ["utf-8"]}), "invalid_envelope"),
    ],
)
def test_what_is_no_message_is_unreadable_with_a_reason(raw: bytes | dict[str, Any], reason: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read(raw)
    assert caught.value.reason == reason
    assert 0 < len(str(caught.value)) < 300


def test_what_is_too_large_is_not_even_looked_at() -> None:
    with pytest.raises(Unreadable, match="at most") as caught:
        read(b"{" * (LARGEST + 1))
    assert caught.value.reason == "oversized"


@given(st.binary(max_size=300))
def test_no_bytes_make_reading_fail_otherwise(raw: bytes) -> None:
    with suppress(Unreadable):
        read(raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(minimal(), JSON)))
def test_no_json_makes_reading_fail_otherwise(raw: dict[str, Any]) -> None:
    with suppress(Unreadable):
        read(raw)


# Going back


def test_what_goes_back_is_marked_as_kombu_marks_it_and_keeps_everything_else() -> None:
    raw = json.dumps(minimal(headers={"id": "a", "future": [1.5]}, properties={"delivery_info": {"x": 1}}))
    back = json.loads(redelivered(raw.encode()))
    assert back["headers"] == {"id": "a", "future": [1.5], "redelivered": True}
    assert back["properties"] == {"delivery_info": {"x": 1, "redelivered": True}}
    assert read(back).redelivered
    assert read(back).starts == 0


def test_starts_add_up() -> None:
    raw = json.dumps(minimal()).encode()
    for starts in range(1, 4):
        raw = redelivered(raw, started=True)
        assert read(raw).starts == starts
    assert read(redelivered(raw)).starts == 3


def test_what_vanished_unseen_counts_as_a_start_now_and_then() -> None:
    raw = json.dumps(minimal()).encode()
    counts = []
    for _ in range(10):
        raw = redelivered(raw, unseen=True)
        counts.append(read(raw).starts)
    assert counts == [0, 0, 0, 0, 1, 1, 1, 1, 1, 2]


@pytest.mark.parametrize("raw", [minimal(headers=None), minimal(headers=...), minimal(properties=None)])
def test_what_has_no_headers_gets_some_when_it_goes_back(raw: dict[str, Any]) -> None:
    back = redelivered(json.dumps(raw).encode(), started=True)
    assert (read(back).starts, read(back).redelivered) == (1, True)


@pytest.mark.parametrize("queue", ["default", 'with "quotes", and commas', 'a, "", "b"', "ünï"])
def test_a_record_is_kombus_and_gives_back_message_and_queue(queue: str) -> None:
    raw = envelope.write(message(), PLACE)
    record = b"[" + raw + record_ending(queue).encode()
    payload, exchange, routing_key = json.loads(record)
    assert (payload, exchange, routing_key) == (json.loads(raw), "", queue)
    assert from_record(record) == (raw, queue)
