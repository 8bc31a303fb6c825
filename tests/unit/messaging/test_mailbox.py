"""Commands and replies as stock clients write and read them, and whom they are for."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djqueue.messaging import brokers, mailbox
from djqueue.messaging.clocks import LamportClock
from djqueue.messaging.mailbox import Command

NODE = "one@host"
PING = {"method": "ping", "arguments": {}, "destination": None, "pattern": None, "matcher": None}
ASKED = {
    **PING,
    "ticket": "a ticket",
    "reply_to": {"exchange": "reply.celery.pidbox", "routing_key": "an oid"},
}


def hears(body: Any, headers: Any = None) -> Command | None:
    return mailbox.hears(body, SimpleNamespace(headers=headers or {}), NODE)


def test_a_command_is_read_as_celery_sends_it_and_written_the_same() -> None:
    command = hears(ASKED, {"clock": 30, "expires": time.time() + 1})
    assert command is not None
    assert command.as_body() == ASKED
    reply = mailbox.answer(command, NODE, {"ok": "pong"})
    assert reply == mailbox.Reply(NODE, {"ok": "pong"}, "a ticket", "reply.celery.pidbox", "an oid")


def test_one_that_wants_no_reply_gets_none() -> None:
    command = hears(PING)
    assert command is not None
    assert command.as_body() == PING
    assert mailbox.answer(command, NODE, {"ok": "pong"}) is None


@pytest.mark.parametrize(
    ("where", "is_for_us"),
    [
        ({}, True),
        ({"destination": []}, True),
        ({"destination": [NODE, "two@host"]}, True),
        ({"destination": ["two@host"]}, False),
        ({"destination": NODE}, True),
        ({"pattern": "*@host", "matcher": "glob"}, True),
        ({"pattern": "two@*", "matcher": "glob"}, False),
        ({"pattern": "o.e@", "matcher": "pcre"}, True),
        ({"pattern": "host", "matcher": "pcre"}, False),
        ({"pattern": "(", "matcher": "pcre"}, False),
        ({"pattern": "*", "matcher": "nonsense"}, False),
        ({"pattern": "*" * 2000, "matcher": "glob"}, False),
    ],
)
def test_a_node_obeys_what_is_meant_for_it(where: dict[str, Any], is_for_us: bool) -> None:
    assert (hears({**PING, **where}) is not None) is is_for_us


def test_a_command_that_comes_too_late_is_ignored() -> None:
    assert hears(PING, {"expires": time.time() - 1}) is None
    assert hears(PING, {"expires": 0}) is not None


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda part: (
            st.lists(part)
            | st.dictionaries(
                st.sampled_from(["method", "arguments", "destination", "reply_to", "ticket", "pattern"]), part
            )
        ),
    )
)
def test_no_message_is_too_strange(body: Any) -> None:
    assert hears(body) is None or isinstance(body["method"], str)


def test_the_clock_goes_behind_every_message_and_never_back() -> None:
    clock = LamportClock()
    assert clock.forward() == 1
    assert clock.adjust(10) == 11
    assert clock.adjust(3) == 12
    assert clock.adjust("nonsense") == 13
    assert clock.adjust(2**80) == 14
    before = brokers.clock.value
    hears(PING, {"clock": before + 100})
    assert brokers.clock.value == before + 101


def test_names_and_kinds_are_those_of_kombus_pidbox(settings: Any) -> None:
    queue = mailbox.node_queue(NODE)
    assert (queue.name, queue.exchange.name, queue.exchange.type) == (
        "one@host.celery.pidbox",
        "celery.pidbox",
        "fanout",
    )
    assert (queue.durable, queue.exclusive, queue.auto_delete) == (False, True, True)
    assert (queue.expires, queue.message_ttl) == (10.0, 300.0)
    replies = mailbox.reply_queue("oid")
    assert (replies.name, replies.routing_key) == ("oid.reply.celery.pidbox", "oid")
    assert (replies.exchange.type, replies.exchange.durable) == ("direct", False)
    settings.DJQUEUE = {"CONTROL_EXCHANGE": "mine"}
    assert mailbox.command_exchange().name == "mine.pidbox"
