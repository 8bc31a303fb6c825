"""RabbitMQ over TLS: who is trusted, who has to show a certificate, what is said when it does not work out.

Private nodes with certificates of an authority made for the run. Delivery promise Z23.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from djqueue import app
from djqueue.conf import settings
from djqueue.core.messages import Destination, Outgoing, WireMessage
from djqueue.exceptions import OperationalError
from djqueue.messaging.connections import connection
from djqueue.messaging.transports.amqp.broker import AmqpBroker
from djqueue.worker.waiting import Waiting
from tests.project import tasks
from tests.support.processes import Processes
from tests.support.rabbit import PrivateTlsRabbit
from tests.support.servers import missing
from tests.support.waiting import wait_until

WAIT = 20.0


def node(certificates: Path, *, strict: bool) -> Iterator[PrivateTlsRabbit]:
    """Start a node, or skip the test."""
    if PrivateTlsRabbit.binary() is None:
        missing("No amqp server: apt-get install rabbitmq-server.")
    started = PrivateTlsRabbit(certificates, strict=strict)
    yield started
    started.close()


@pytest.fixture(scope="module")
def open_node(certificates: Path) -> Iterator[PrivateTlsRabbit]:
    """Return a node that asks clients for no certificate."""
    yield from node(certificates, strict=False)


@pytest.fixture(scope="module")
def strict_node(certificates: Path) -> Iterator[PrivateTlsRabbit]:
    """Return a node that asks clients for a certificate of the authority."""
    yield from node(certificates, strict=True)


def works(url: str) -> None:
    """Send, receive and settle at this address; connect to it as remote control and events do."""
    broker = AmqpBroker(url, {})
    message = WireMessage({"task": "t", "id": "a"}, {"correlation_id": "a"}, b"x" * 300_000)
    broker.send_many([Outgoing(message, Destination("", "secure", "secure"))])
    waiting = Waiting()
    source = broker.source(["secure"], f"consumer-{os.getpid()}-tls")
    source.open(waiting.watch, waiting.wake)
    received: list[Any] = []
    wait_until(lambda: received.extend(source.receive(1)) or received, WAIT, "for the message")
    assert received[0].message.body == b"x" * 300_000
    assert source.settle([received[0].ack()]) == []
    source.close()
    assert broker.size("secure") == 0
    broker.close()
    waiting.close()
    with settings.override(BROKER_URL=url), connection() as remote:
        remote.ensure_connection(max_retries=1)


def refused(url: str, words: str) -> None:
    """Be told by both kinds of connections that it does not work."""
    broker = AmqpBroker(url, {})
    with pytest.raises(OperationalError, match=words):
        broker.size("secure")
    broker.close()


def address(server: PrivateTlsRabbit, scheme: str = "amqps", host: str = "127.0.0.1") -> str:
    return f"{scheme}://guest:guest@{host}:{server.tls_port}//"


@pytest.mark.parametrize("scheme", ["amqp", "amqps", "pyamqp"])
def test_a_node_whose_authority_is_named_is_trusted(
    open_node: PrivateTlsRabbit, certificates: Path, scheme: str
) -> None:
    with settings.override(BROKER_USE_SSL={"ca_certs": f"{certificates}/ca.crt"}):
        works(address(open_node, scheme))


def test_names_of_options_may_begin_with_ssl_as_those_of_redis_do(
    open_node: PrivateTlsRabbit, certificates: Path
) -> None:
    with settings.override(BROKER_USE_SSL={"ssl_ca_certs": f"{certificates}/ca.crt"}):
        works(address(open_node))


@pytest.mark.parametrize("use_ssl", [True, False])
def test_without_options_the_authorities_of_the_system_are_asked(
    open_node: PrivateTlsRabbit, certificates: Path, monkeypatch: pytest.MonkeyPatch, use_ssl: bool
) -> None:
    scheme = "amqp" if use_ssl else "amqps"
    with settings.override(BROKER_USE_SSL=use_ssl):
        refused(address(open_node, scheme), r"does not trust.*BROKER_USE_SSL")
        monkeypatch.setenv("SSL_CERT_FILE", f"{certificates}/ca.crt")
        works(address(open_node, scheme))


def test_another_authority_or_another_name_is_refused_with_the_reason(
    open_node: PrivateTlsRabbit, certificates: Path
) -> None:
    with settings.override(BROKER_USE_SSL={"ca_certs": f"{certificates}/stranger.crt"}):
        refused(address(open_node), "does not trust")
    with settings.override(BROKER_USE_SSL={"ca_certs": f"{certificates}/ca.crt"}):
        refused(address(open_node, host="localhost"), r"does not trust.*localhost")


def test_a_node_may_ask_for_a_certificate(strict_node: PrivateTlsRabbit, certificates: Path) -> None:
    ours = {"ca_certs": f"{certificates}/ca.crt"}
    with settings.override(BROKER_USE_SSL=ours):
        refused(address(strict_node), "certfile")
    shown = {"certfile": f"{certificates}/client.crt", "keyfile": f"{certificates}/client.key"}
    with settings.override(BROKER_USE_SSL={**ours, **shown}):
        works(address(strict_node))


def test_speaking_in_clear_to_a_port_of_tls_is_an_error_that_says_so(open_node: PrivateTlsRabbit) -> None:
    refused(address(open_node, "amqp"), "cannot be reached")


def test_a_worker_runs_tasks_and_is_controlled_over_tls(
    processes: Processes, strict_node: PrivateTlsRabbit, certificates: Path
) -> None:
    secured = {
        "BROKER_URL": address(strict_node),
        "BROKER_USE_SSL": {
            "ca_certs": f"{certificates}/ca.crt",
            "certfile": f"{certificates}/client.crt",
            "keyfile": f"{certificates}/client.key",
        },
        "BROKER_NATIVE_DELAYED_DELIVERY_QUEUE_TYPE": "classic",
    }
    worker = processes.start("runworker", "-c", "2", "-n", "secured@%h", settings=secured)
    worker.wait_for_line("djq.worker.ready", within=30)
    with settings.override(**secured):
        assert tasks.add.delay(2, 3).get(timeout=WAIT) == 5
        assert tasks.echo.delay("x" * 1_000_000).get(timeout=WAIT) == [["x" * 1_000_000], {}]
        (reply,) = app.control.ping(timeout=5)
    assert list(reply.values()) == [{"ok": "pong"}]
    assert worker.terminate() == 0
