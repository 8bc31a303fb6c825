"""The fields of events, and that a broker that does not answer holds up nobody."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from djqueue.messaging import postman
from djqueue.messaging.events import event
from djqueue.messaging.mailbox import Reply
from djqueue.messaging.postman import BOX_SIZE, Postman
from tests.support.waiting import wait_until


def test_every_event_has_the_fields_that_monitors_want() -> None:
    first, second = event("task-started", "one@host", uuid="x"), event("task-sent", "one@host", timestamp=5.0)
    assert list(first) == ["hostname", "utcoffset", "pid", "clock", "uuid", "timestamp", "type"]
    assert (first["hostname"], first["pid"], first["type"]) == ("one@host", os.getpid(), "task-started")
    assert abs(first["timestamp"] - time.time()) < 5
    assert second["clock"] == first["clock"] + 1
    assert second["timestamp"] == 5.0


def test_the_offset_counts_hours_west_of_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    for zone, west in (("UTC0", 0.0), ("EST5", 5.0), ("IST-5:30", -5.5)):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert event("worker-online", "one@host")["utcoffset"] == west
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def mute_broker(settings: Any) -> Iterator[None]:
    """Name a broker that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        options = {"socket_timeout": 0.2, "socket_connect_timeout": 0.2}
        settings.DJQUEUE = {
            "BROKER_URL": f"redis://127.0.0.1:{server.getsockname()[1]}/0",
            "BROKER_TRANSPORT_OPTIONS": options,
        }
        yield


@pytest.mark.usefixtures("mute_broker")
def test_what_a_broker_does_not_take_is_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(postman, "PAUSE", 0.01)
    sender = Postman("one@host")
    sender.start()
    began = time.monotonic()
    for _ in range(BOX_SIZE * 3):
        sender.post([event("task-started", "one@host", uuid="x")])
    sender.post(Reply("one@host", {"ok": "pong"}, None, "nowhere", "nobody"))
    assert time.monotonic() - began < 2
    wait_until(lambda: sender.dropped == BOX_SIZE * 3 + 1, 20, "all letters to be dropped")
    sender.stop()
    assert caplog.text.count("djq.events.not_sent") == 1


@pytest.mark.usefixtures("mute_broker")
def test_ending_waits_for_a_mute_broker_only_so_long() -> None:
    sender = Postman("one@host")
    sender.start()
    sender.post(event("worker-offline", "one@host"))
    began = time.monotonic()
    sender.stop()
    assert time.monotonic() - began < postman.LAST_MOMENTS + 1
