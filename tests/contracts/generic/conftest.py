"""Brokers that are reached through kombu's transports, each fresh for each test, and a bench for them.

The directory of files is asked the whole contract of sources in contracts/sources, and here only the rest.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from djqueue.core.messages import Destination, Outgoing, WireMessage
from djqueue.messaging import brokers
from djqueue.messaging.contract import Broker, Source
from djqueue.messaging.delivery import Delivery
from tests.contracts.sources.conftest import ENVIRONMENT, ids
from tests.support import other_brokers
from tests.support.other_brokers import PrivateEtcd, PrivateSqs, PrivateZooKeeper
from tests.support.processes import ROOT
from tests.support.waiting import wait_until

WAIT = 30.0


@pytest.fixture(scope="session")
def sqs_server() -> Iterator[PrivateSqs]:
    server = other_brokers.sqs()
    yield server
    server.close()


@pytest.fixture(scope="session")
def zookeeper_server() -> Iterator[PrivateZooKeeper]:
    server = other_brokers.zookeeper()
    yield server
    server.close()


@pytest.fixture(scope="session")
def etcd_server() -> Iterator[PrivateEtcd]:
    server = other_brokers.etcd()
    yield server
    server.close()


def files(_: object, directory: Path) -> tuple[str, dict[str, Any]]:
    """Return URL and options of a directory."""
    for name in ("messages", "control"):
        (directory / name).mkdir()
    messages = str(directory / "messages")
    return "filesystem://", {
        "data_folder_in": messages,
        "data_folder_out": messages,
        "control_folder": str(directory / "control"),
    }


def rows(request: pytest.FixtureRequest, directory: Path) -> tuple[str, dict[str, Any]]:
    """Return URL and options of an SQLite database through SQLAlchemy."""
    return f"sqla+sqlite:///{directory}/kombu.sqlite3", {}


def sqs(request: pytest.FixtureRequest, directory: Path) -> tuple[str, dict[str, Any]]:
    """Return URL and options of an SQS, with queues of a name of their own."""
    server = request.getfixturevalue("sqs_server")
    return server.url, {**server.options(), "queue_name_prefix": f"{uuid.uuid4().hex[:8]}-"}


def zookeeper(request: pytest.FixtureRequest, directory: Path) -> tuple[str, dict[str, Any]]:
    """Return URL and options of a ZooKeeper, with a path of its own."""
    server = request.getfixturevalue("zookeeper_server")
    return f"{server.url}-{uuid.uuid4().hex[:8]}", {}


def etcd(request: pytest.FixtureRequest, directory: Path) -> tuple[str, dict[str, Any]]:
    """Return URL and options of an etcd without queues: kombu keeps them all in one place."""
    server = request.getfixturevalue("etcd_server")
    server.empty()
    return server.url, {}


KINDS: dict[str, Callable[[pytest.FixtureRequest, Path], tuple[str, dict[str, Any]]]] = {
    "etcd": etcd,
    "sqlalchemy": rows,
    "sqs": sqs,
    "zookeeper": zookeeper,
}


#: the directory of files has its place among the `KINDS` of contracts/sources; here is the rest
EVERY = {"files": files, **KINDS}
of_every_kind = pytest.mark.parametrize("bench", EVERY, indirect=True)


@dataclass
class Bench:
    """One broker on the bench."""

    broker: Broker
    options: dict[str, Any]
    sources: list[Source] = field(default_factory=list)
    holders: list[subprocess.Popen[str]] = field(default_factory=list)

    def send(
        self, *names: str, queue: str = "default", body: bytes = b"[[], {}, {}]", **headers: Any
    ) -> None:
        """Send one message for each id."""
        self.broker.send_many([outgoing(one, queue, body, headers) for one in names])

    def source(self, *queues: str) -> Source:
        """Return an open source."""
        source = self.broker.source(queues or ("default",), f"consumer-{os.getpid()}-{len(self.sources)}")
        source.open(lambda *_: None, lambda: None)
        self.sources.append(source)
        return source

    def holder(self, claim: int) -> subprocess.Popen[str]:
        """Start a process that takes messages, and waits."""
        settings = {"BROKER_TRANSPORT_OPTIONS": self.options}
        holder_of = [sys.executable, "-m", "tests.contracts.sources.holder"]
        words = [*holder_of, self.broker.url, "default", str(claim), "0"]
        environment = {**ENVIRONMENT, "DJQUEUE_TEST_SETTINGS": json.dumps(settings)}
        holder = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        self.holders.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        return holder

    def close(self) -> None:
        """End everything that is open."""
        for source in self.sources:
            source.close()
        for holder in self.holders:
            holder.kill()
            holder.wait()
            assert holder.stdout is not None
            holder.stdout.close()
        self.broker.close()
        assert [thread.name for thread in threading.enumerate() if "zk_loop" in thread.name] == []


def outgoing(task_id: str, queue: str, body: bytes, headers: dict[str, Any]) -> Outgoing:
    """Return a message on its way to `queue`."""
    properties = {"correlation_id": task_id, "priority": 0, "delivery_mode": 2}
    message = WireMessage({"task": "tests.add", "id": task_id, **headers}, properties, body)
    return Outgoing(message, Destination("", queue, queue))


def receive(source: Source, number: int = 1) -> list[Delivery]:
    """Return so many deliveries, in the order in which they come."""
    received: list[Delivery] = []

    def is_full() -> bool:
        source.tend(time.monotonic())
        received.extend(source.receive(number - len(received)))
        return len(received) >= number

    wait_until(is_full, WAIT, f"for {number} messages; {ids(received)} came")
    return received


def is_empty(source: Source, broker: Broker) -> bool:
    """Return whether nothing comes although the source looked for it."""
    return not source.receive(1) and broker.size("default") == 0


def kill(holder: subprocess.Popen[str]) -> None:
    """Kill the process as hard as can be."""
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()


@pytest.fixture(params=KINDS)
def bench(
    request: pytest.FixtureRequest, transactional_db: None, settings: Any, tmp_path: Path
) -> Iterator[Bench]:
    url, options = EVERY[request.param](request, tmp_path)
    settings.DJQUEUE = {**settings.DJQUEUE, "BROKER_TRANSPORT_OPTIONS": options}
    made = Bench(brokers.broker(url), options)
    yield made
    made.close()
