"""Messages are, byte for byte, what a stock Celery sends: compared with recorded ones.

`tests/unit/golden/record.py` made the recordings; the one difference that is meant is stated here.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from djqueue.conf import settings
from djqueue.core import moments, names, protocol
from djqueue.core.calls import Call, Plan, asked
from djqueue.core.messages import WireMessage
from djqueue.core.routing import Router
from djqueue.core.serialization import decompress
from tests.unit.golden.cases import CASES, NOW, REPLY_TO, TASK_ID, Case

RECORDED = json.loads(Path(__file__).parents[1].joinpath("golden/messages.json").read_text())["messages"]

#: What transports add to properties; what we never set, since brokers drop expired messages without a trace;
#: and options that Celery hands on by accident: AMQP has no such properties, and nobody reads them.
NOT_OURS = {"body_encoding", "delivery_info", "delivery_tag", "expiration", "argsrepr", "kwargsrepr"}


def call_of(case: Case) -> Call:
    """Return the case as djqueue's own call."""
    plan = Plan("golden.add", ignore_result=False) if case.known else Plan.for_name("golden.add")
    call = asked(plan, case.args, case.kwargs, {"task_id": TASK_ID, "reply_to": REPLY_TO, **case.options})
    for name, value in case.fields.items():
        setattr(call, name, value)
    return call


def encoded(case: Case, monkeypatch: pytest.MonkeyPatch) -> WireMessage:
    """Return the message djqueue makes of the case at the moment of the recording."""
    monkeypatch.setattr(moments, "now", lambda: NOW)
    with settings.override(**{name.upper(): value for name, value in case.conf.items()}):
        return protocol.encode(call_of(case))


def headers_text(headers: dict[str, Any]) -> str:
    """Return the headers as text that shows their order, without the process that sent them."""
    assert re.fullmatch(r"gen\d+@.+", headers.get("origin", "gen1@x"))
    shown = {key: "gen@" if key == "origin" else value for key, value in headers.items()}
    return json.dumps(shown)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_message_is_the_one_celery_sends(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    message = encoded(case, monkeypatch)
    recorded = RECORDED[case.name]
    assert headers_text(message.headers) == headers_text(recorded["headers"])
    assert message.content_type == recorded["content-type"]
    assert message.content_encoding == recorded["content-encoding"]
    properties = {key: value for key, value in recorded["properties"].items() if key not in NOT_OURS}
    assert message.properties == properties
    body = base64.b64decode(recorded["body"])
    compression = message.headers.get("compression")
    if compression:  # other versions of the libraries compress differently
        body, ours = decompress(body, compression), decompress(message.body, compression)
        assert ours == body
    else:
        assert message.body == body


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_message_goes_where_celery_sends_it(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    call = call_of(case)
    place = Router(default_queue="golden").place(call)
    expected = RECORDED[case.name]["properties"]["delivery_info"]
    assert (place.exchange, place.routing_key) == (expected["exchange"], expected["routing_key"])


def test_the_one_known_difference_is_that_expiration_is_never_set(monkeypatch: pytest.MonkeyPatch) -> None:
    expiring = [case for case in CASES if "expires" in case.options]
    assert len(expiring) >= 5
    for case in expiring:
        assert "expiration" in RECORDED[case.name]["properties"]
        message = encoded(case, monkeypatch)
        assert "expiration" not in message.properties
        assert message.headers.get("expires") or b'"expires": "' in decompress_if_needed(message)


def decompress_if_needed(message: WireMessage) -> bytes:
    compression = message.headers.get("compression")
    return decompress(message.body, compression) if compression else message.body


def test_without_reply_to_the_address_of_the_thread_is_given_as_celery_does() -> None:
    message = protocol.encode(asked(Plan("golden.add"), (), {}, {}))
    assert message.properties["reply_to"] == names.reply_address()
    assert UUID(names.reply_address()).version == 3


@pytest.mark.parametrize("name", RECORDED)
def test_what_celery_sent_is_read_back(name: str) -> None:
    recorded = RECORDED[name]
    message = WireMessage(
        dict(recorded["headers"]),
        recorded["properties"],
        base64.b64decode(recorded["body"]),
        recorded["content-type"],
        recorded["content-encoding"],
    )
    accept = ("json", "yaml", "pickle")
    if "task" not in message.headers:
        message = protocol.upgrade_v1(message, accept)
    request = protocol.read_headers(message, {}, 0)
    assert (request.task, request.id) == ("golden.add", TASK_ID)
    args, kwargs, embed = protocol.read_body(message, accept)
    assert isinstance(args, list | tuple)
    assert isinstance(kwargs, dict)
    assert list(embed) == ["callbacks", "errbacks", "chain", "chord"]
