"""The brokers that the contract of sources is asked of, and a bench to ask it on.

Each test gets a fresh broker of every kind, with a way to send, to receive, to look at dead letters and to
spoil a message. A new broker is one more entry in `KINDS`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis
from amqp.exceptions import NotFound
from django.conf import settings
from django.db import connections
from kombu.connection import Connection
from kombu.transport.native_delayed_delivery import level_name

from djqueue import conf
from djqueue.core.messages import Destination, Outgoing, WireMessage
from djqueue.messaging import brokers
from djqueue.messaging.contract import Broker, Source
from djqueue.messaging.delivery import Delivery
from djqueue.messaging.transports.amqp import graves
from djqueue.messaging.transports.database.sqlite import SQLite
from djqueue.messaging.transports.generic.files import Transport
from djqueue.messaging.transports.memory import MemoryBroker
from djqueue.models import DeadLetter, Message
from djqueue.worker.waiting import Waiting
from tests.project.settings import DIRECTORY
from tests.support.processes import ROOT
from tests.support.waiting import wait_until

#: for processes that use the test's databases, beside what os.environ holds by then
ENVIRONMENT = {
    "DJANGO_SETTINGS_MODULE": "tests.project.settings",
    "DJQUEUE_TEST_DIR": str(DIRECTORY),
}


#: what tests of this contract call their queues
QUEUES_USED = (
    *("default", "mails", "one", "two", "three", "quiet", "loud", "other"),
    *("feeds", "pictures", "both", "keyed", "late"),
)
#: a message that is there is pushed within so many seconds, or after the one before it
PUSHED_WITHIN = 0.5


@dataclass(frozen=True)
class Kind:
    """One kind of broker: its URL, and what tests cannot do through the contract."""

    url: str
    dead_letters: Callable[[Broker], list[tuple[str, str, Any, int]]]
    spoil: Callable[[Broker], None]
    prepare: Callable[[pytest.MonkeyPatch], None] = lambda monkeypatch: None
    #: fixture of the server, which knows the URL
    server: str = ""
    #: kind of the database that stands in for the default one
    database: str = "sqlite"
    #: nobody can wake a source: it looks by itself, when it tends
    looks: bool = False
    #: removes what earlier tests left on the server
    clear: Callable[[str], None] = lambda url: None
    #: a virtual host of the server's own
    vhost: str = ""
    #: changes to DJQUEUE
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: messages are pushed to consumers: what was fetched and not handed out counts as delivered
    pushes: bool = False
    #: sizes count what was sent for later, too
    sizes_delays: bool = True
    #: 0 comes first among the queues of a consumer, and what is no number is kept
    priorities: bool = True
    #: what is given back stands where it stood, and comes again in that order; a quorum queue puts it at
    #: the end, and shares it out among a channel's consumers, one after the other
    keeps_place: bool = True


def dead_rows(broker: Broker) -> list[tuple[str, str, Any, int]]:
    """Return reason, detail, id and starts of the dead letters in the table."""
    return list(DeadLetter.objects.order_by("id").values_list("reason", "detail", "task_id", "starts"))


def dead_in_memory(broker: Broker) -> list[tuple[str, str, Any, int]]:
    """Return the same from memory."""
    assert isinstance(broker, MemoryBroker)
    return [
        (dead.reason, dead.detail, dead.kept.packed[0][0].get("id"), dead.kept.starts)
        for dead in broker.dead_letters
    ]


def spoil_row(broker: Broker) -> None:
    """Make the headers of every waiting message unreadable."""
    Message.objects.update(headers="{no json")


def spoil_nothing(broker: Broker) -> None:
    """Skip: what is in memory cannot become unreadable."""
    pytest.skip("messages in memory are never unreadable")


def without_returning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let SQLite work as vendors that cannot return the rows they changed."""
    monkeypatch.setattr(SQLite, "returning", False)


def dead_in_redis(broker: Broker) -> list[tuple[str, str, Any, int]]:
    """Return the same from Redis, oldest first."""
    with redis.Redis.from_url(broker.url) as client:
        letters = [json.loads(client.hget("djq:dead", one)) for one in client.zrange("djq:dead_index", 0, -1)]
    return [
        (letter["reason"], letter["detail"], _SPOILED_ID.findall(letter["message"])[0], letter["starts"])
        for letter in letters
    ]


_SPOILED_ID = re.compile(r'"id": "(.*?)"')


def spoil_element(broker: Broker) -> None:
    """Cut the end off every waiting message."""
    with redis.Redis.from_url(broker.url) as client:
        for number, raw in enumerate(client.lrange("default", 0, -1)):
            client.lset("default", number, raw[:-1])


def empty_redis(url: str) -> None:
    """Delete everything."""
    with redis.Redis.from_url(url) as client:
        client.flushdb()


def empty_rabbit(url: str) -> None:
    """Delete the queues that these tests use, what waits for its time, and the boards of the dead."""
    board = graves.path_of("")
    assert board is not None
    for left in board.parent.glob("amqp-holder-*"):
        left.unlink()
    with Connection(url) as connection:
        channel = connection.channel()
        for queue in QUEUES_USED:
            channel.queue_delete(queue)
        for level in range(28):
            try:
                channel.queue_purge(level_name(level))
            except NotFound:
                return


def spoil_headers(broker: Broker) -> None:
    """Replace every waiting message by one of the same id whose headers are nested too deeply."""
    with Connection(broker.url) as connection:
        channel = connection.channel()
        spoilt: dict[str, Any] = {}
        for _ in range(420):
            spoilt = {"deeper": spoilt}
        messages = list(iter(partial(channel.basic_get, "default", no_ack=True), None))
        for message in messages:
            headers = {"id": message.headers["id"], "spoilt": spoilt}
            channel.basic_publish(
                channel.prepare_message(message.body, None, "application/json", "utf-8", headers),
                routing_key="default",
            )


#: where the messages of filesystem:// are, and what binds queues to exchanges
FILES = {name: DIRECTORY / "files" / name for name in ("messages", "control")}


def empty_files(url: str) -> None:
    """Make the directories, without anything in them."""
    Transport.global_state.clear()  # kombu's, of the whole process: what is bound to what
    for directory in FILES.values():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)


def spoil_files(broker: Broker) -> None:
    """Replace the headers of every waiting message by something else."""
    for path in FILES["messages"].iterdir():
        payload = json.loads(path.read_text())
        path.write_text(json.dumps({**payload, "headers": "spoilt"}))


CLASSIC = {"BROKER_NATIVE_DELAYED_DELIVERY_QUEUE_TYPE": "classic"}
QUORUM = {"TASK_DEFAULT_QUEUE_TYPE": "quorum", "TASK_CREATE_MISSING_QUEUE_TYPE": "quorum"}
RABBIT = Kind(
    "",
    dead_rows,
    spoil_headers,
    server="amqp_server",
    clear=empty_rabbit,
    pushes=True,
    sizes_delays=False,
    priorities=False,
)

KINDS = {
    "sqlite": Kind("django://default", dead_rows, spoil_row),
    "sqlite in steps": Kind("django://default", dead_rows, spoil_row, without_returning),
    "postgresql": Kind("django://default", dead_rows, spoil_row, database="postgresql"),
    "mariadb": Kind("django://default", dead_rows, spoil_row, database="mariadb", looks=True),
    "memory": Kind("memory://", dead_in_memory, spoil_nothing),
    "redis": Kind("", dead_in_redis, spoil_element, server="redis_server", clear=empty_redis),
    "filesystem": Kind(
        "filesystem://",
        dead_rows,
        spoil_files,
        clear=empty_files,
        settings={
            "BROKER_TRANSPORT_OPTIONS": {
                "data_folder_in": str(FILES["messages"]),
                "data_folder_out": str(FILES["messages"]),
                "control_folder": str(FILES["control"]),
            }
        },
        pushes=True,
        priorities=False,
        keeps_place=False,
    ),
    "rabbitmq classic": replace(RABBIT, vhost="classic", settings=CLASSIC),
    "rabbitmq quorum": replace(RABBIT, vhost="quorum", settings=QUORUM, keeps_place=False),
}


@dataclass
class Sleeper:
    """Sleeps where the worker's loop would, and knows whether it was woken."""

    waiting: Waiting = field(default_factory=Waiting)
    was_woken: bool = False
    #: to be tended meanwhile, as the loop does
    tended: Source | None = None

    def wake(self) -> None:
        """Note it, and end the sleep."""
        self.was_woken = True
        self.waiting.wake()

    def is_woken(self, within: float) -> bool:
        """Sleep until woken; return whether it was, within that many seconds or since it last slept."""
        deadline = time.monotonic() + within
        self.waiting.wait(0)
        while not self.was_woken and (left := deadline - time.monotonic()) > 0:
            # The pipe may still hold what an earlier wake-up, from a thread, wrote late.
            self.waiting.wait(min(self.tended.tend(time.monotonic()), left) if self.tended else left)
        was_woken, self.was_woken = self.was_woken, False
        return was_woken


@dataclass
class Bench:
    """A broker on the bench."""

    kind: Kind
    broker: Broker
    _sources: list[tuple[Source, Sleeper]] = field(default_factory=list)
    _holders: list[subprocess.Popen[str]] = field(default_factory=list)
    _names: Iterator[int] = field(default_factory=count)

    def send(
        self,
        *ids: str,
        queue: str = "default",
        due: float | None = None,
        body: bytes = b"[[], {}, {}]",
        priority: Any = None,
        **headers: Any,
    ) -> None:
        """Send one message for each id, in one go."""
        self.broker.send_many([outgoing(one, queue, due, body, priority, headers) for one in ids])

    def send_later(self, task_id: str) -> None:
        """Send one message in a tenth of a second, from a thread that closes what it opened."""

        def send() -> None:
            try:
                self.send(task_id)
            finally:
                connections.close_all()

        threading.Timer(0.1, send).start()

    def source(self, *queues: str, consumer: str | None = None) -> Source:
        """Return an open source of a consumer that nobody else is."""
        return self.watched_source(*queues, consumer=consumer)[0]

    def watched_source(self, *queues: str, consumer: str | None = None) -> tuple[Source, Sleeper]:
        """Return an open source, and who is woken by it."""
        sleeper = Sleeper()
        source = self.broker.source(
            queues or ("default",), consumer or f"consumer-{os.getpid()}-{next(self._names)}"
        )
        source.open(sleeper.waiting.watch, sleeper.wake)
        if self.kind.pushes:
            wait_for_pushed(source)
        self._sources.append((source, sleeper))
        if self.kind.looks:
            sleeper.tended = source
        return source, sleeper

    def placed(self, again: list[Delivery]) -> list[Delivery]:
        """Return what came again as it came, or by id where its order says nothing."""
        return again if self.kind.keeps_place else sorted(again, key=lambda one: ids([one]))

    @property
    def sizes_put_off(self) -> bool:
        """Whether sizes count what a source has put off: it is the broker, not the source, that keeps it."""
        return self.kind.sizes_delays and self.broker.capabilities.delays

    def dead_letters(self) -> list[tuple[str, str, Any, int]]:
        """Return reason, detail, id and starts of each dead letter."""
        return self.kind.dead_letters(self.broker)

    def holder(
        self, claim: int, start: int = 0, queue: str = "default", *, given_up: bool = False
    ) -> subprocess.Popen[str]:
        """Start a process that claims messages, writes that the first `start` of them run, and waits.

        `given_up`: it consumes the queue no more.
        """
        if self.broker.capabilities.in_process:
            pytest.skip("its queues live in one process")
        holder = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.contracts.sources.holder"),
                *(self.kind.url, queue, str(claim), str(start)),
                *(["given up"] if given_up else []),
            ],
            cwd=ROOT,
            env={
                **os.environ,
                **ENVIRONMENT,
                "DJQUEUE_TEST_SETTINGS": json.dumps(dict(self.kind.settings)),
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        self._holders.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        return holder

    def kill(self, holder: subprocess.Popen[str]) -> None:
        """Kill the process as hard as can be."""
        if not self.broker.capabilities.redelivers:
            pytest.skip("what a killed consumer held is lost")
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()

    def close(self) -> None:
        """End everything that is still open."""
        for source, sleeper in self._sources:
            source.close()
            sleeper.waiting.close()
        for holder in self._holders:
            holder.kill()
            holder.wait()
            assert holder.stdout is not None
            holder.stdout.close()


def outgoing(
    task_id: str, queue: str, due: float | None, body: bytes, priority: Any, headers: dict[str, Any]
) -> Outgoing:
    """Return a message on its way to `queue`."""
    message = WireMessage(
        {"task": "tests.add", "id": task_id, **headers},
        {"correlation_id": task_id, "priority": priority, "delivery_mode": 2},
        body,
    )
    return Outgoing(message, Destination("", queue, queue), due)


def wait_for_pushed(source: Source) -> None:
    """Let the source receive as if messages were there at once: it waits a moment for those on their way."""
    receive = source.receive

    def patiently(room: int) -> list[Delivery]:
        received: list[Delivery] = []

        def has_more() -> bool:
            more = receive(room - len(received))
            received.extend(more)
            return bool(more)

        with suppress(AssertionError):  # so many were not there
            while len(received) < room:
                wait_until(has_more, within=PUSHED_WITHIN, because="for messages to be pushed")
        return received

    source.receive = patiently  # type: ignore[method-assign]


def ids(deliveries: list[Delivery]) -> list[str]:
    """Return the ids of the messages."""
    return [delivery.message.headers["id"] for delivery in deliveries]


def receive_within(
    source: Source, seconds: float, because: str, room: int = 10, least: int = 1
) -> list[Delivery]:
    """Tend and receive until something comes, `least` of it."""
    received: list[Delivery] = []

    def look() -> bool:
        source.tend(time.monotonic())
        received.extend(source.receive(room))
        return len(received) >= least

    wait_until(look, within=seconds, because=because)
    return received


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Ask every kind, each on its database."""
    if "bench" in metafunc.fixturenames and "bench" not in dir(metafunc.module):
        kinds = [(name, kind.database) for name, kind in KINDS.items()]
        metafunc.parametrize(("bench", "database"), kinds, indirect=True, ids=list(KINDS))


@pytest.fixture
def bench(request: pytest.FixtureRequest, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    kind = KINDS[request.param]
    kind.prepare(monkeypatch)
    monkeypatch.setattr(settings, "DJQUEUE", {**settings.DJQUEUE, **kind.settings})
    conf.settings.reload()
    if kind.server:
        server = request.getfixturevalue(kind.server)
        kind = replace(kind, url=server.vhost(kind.vhost) if kind.vhost else server.url)
    # Boards lie in the directory for temporary files, where those of other runs have the same names on them.
    own = DIRECTORY / "boards"
    own.mkdir(exist_ok=True)
    monkeypatch.setenv("TMPDIR", str(own))
    monkeypatch.setattr(tempfile, "tempdir", None)
    kind.clear(kind.url)
    broker = brokers.broker(kind.url)
    board = broker.start_board_path("anybody")
    # Elsewhere the directory is shared with real workers.
    if board is not None and not kind.server and kind.database == "sqlite":
        shutil.rmtree(Path(board).parent, ignore_errors=True)
    bench = Bench(kind, broker)
    yield bench
    bench.close()
