"""What the living do for the dead on SQLite: lock files, their races, and files that are not there.

Files are made and removed as crashes, restarts and careless administrators would; then a source tends, and
what it gave back, counted and cleared away is looked at.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.db import connection, connections

from djqueue.exceptions import OperationalError
from djqueue.messaging import brokers, liveness
from djqueue.messaging.startboard import StartBoard
from djqueue.messaging.transports.database import doorbell
from djqueue.models import Message
from tests.contracts.sources.conftest import ENVIRONMENT, KINDS, Bench, ids, receive_within
from tests.support.processes import ROOT
from tests.support.waiting import wait_until


@pytest.fixture
def bench(transactional_db: None) -> Iterator[Bench]:
    bench = Bench(KINDS["sqlite"], brokers.broker("django://default"))
    shutil.rmtree(directory_of(bench), ignore_errors=True)
    yield bench
    bench.close()


@pytest.fixture
def directory(bench: Bench) -> Path:
    return directory_of(bench)


def directory_of(bench: Bench) -> Path:
    path = bench.broker.start_board_path("anybody")
    assert path is not None
    return path.parent


def tend(source: object) -> None:
    """Let the source go its round now."""
    source._next_round = 0.0  # type: ignore[attr-defined]
    source.tend(time.monotonic())  # type: ignore[attr-defined]


def test_the_board_of_started_jobs_is_the_lock_file(bench: Bench, directory: Path) -> None:
    path = bench.broker.start_board_path("worker@host/1")
    assert path == directory / "worker@host%2F1.board"
    board = StartBoard.create(path, 4)
    board.start(0, 1, b"7-1", 1.0)
    bench.source(consumer="worker@host/1")
    assert liveness.is_alive(directory, "worker@host/1")
    assert [entry.name for entry in directory.iterdir() if entry.suffix == ".bell"] == [
        "worker@host%2F1.bell"
    ]
    assert directory.stat().st_mode & 0o777 == 0o700
    assert os.stat(path).st_mode & 0o077 == 0


def test_nothing_is_left_of_a_worker_that_closed(bench: Bench, directory: Path) -> None:
    bench.source().close()
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("held", [0, 1])
def test_nothing_is_left_of_a_dead_worker_that_was_looked_after(
    bench: Bench, directory: Path, held: int
) -> None:
    bench.send("a")
    bench.kill(bench.holder(claim=held))
    assert len(list(directory.iterdir())) == 2
    bench.source().close()
    assert list(directory.iterdir()) == []


def test_taking_over_is_logged_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.send("a", "b")
    holder = bench.holder(claim=2, start=1)
    bench.kill(holder)
    with caplog.at_level(logging.WARNING, "djqueue.broker"):
        source = bench.source()
        tend(source)
    assert [record.getMessage() for record in caplog.records] == [
        f"djq.recovered n=2 started=1 from=holder-{holder.pid}"
    ]


def test_a_board_that_is_not_locked_yet_is_left_alone(bench: Bench, directory: Path) -> None:
    """Given a worker that made its board and is forking its children, nobody clears the board away."""
    path = bench.broker.start_board_path("starting")
    board = StartBoard.create(path, 1)
    tend(bench.source())
    assert path is not None
    assert path.exists()
    late = bench.source(consumer="starting")
    board.start(0, 1, b"1-1", 1.0)
    assert path.read_bytes()[:1] == b"\1", "the worker locked another file than its children write to"
    late.close()


def test_an_old_board_without_lock_and_claims_is_cleared_away(bench: Bench, directory: Path) -> None:
    path = bench.broker.start_board_path("long gone")
    assert path is not None
    StartBoard.create(path, 1).close()
    an_hour_ago = time.time() - 3600
    os.utime(path, (an_hour_ago, an_hour_ago))
    tend(bench.source())
    assert not path.exists()


def test_claims_of_a_name_without_a_file_come_back_after_two_rounds(bench: Bench) -> None:
    bench.send("a")
    Message.objects.update(claimed_by="restored-from-a-backup")
    source = bench.source()
    assert source.receive(10) == []
    tend(source)
    (delivery,) = source.receive(10)
    assert (ids([delivery]), delivery.starts, delivery.redelivered) == (["a"], 0, True)


def test_a_worker_whose_file_was_removed_makes_it_anew(bench: Bench, directory: Path) -> None:
    bench.send("a")
    source = bench.source(consumer="careful")
    source.receive(1)
    for entry in directory.iterdir():
        entry.unlink()
    tend(source)
    assert liveness.is_alive(directory, "careful")
    other = bench.source()
    tend(other)
    tend(other)
    assert other.receive(10) == []


def test_a_name_that_is_in_use_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "_LONGEST_LOOK", 0.05)
    bench.source(consumer="twin")
    with pytest.raises(OperationalError, match="another process uses this worker's name"):
        bench.source(consumer="twin")


def test_two_that_look_after_the_same_dead_count_a_start_once(bench: Bench) -> None:
    bench.send(*(str(number) for number in range(30)))
    sources = [bench.source(consumer=f"reaper-{number}") for number in range(4)]
    holder = bench.holder(claim=30, start=10)
    bench.kill(holder)

    def look(source: object) -> None:
        try:
            for _ in range(5):
                tend(source)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(look, sources))
    starts = list(Message.objects.order_by("id").values_list("starts", "claimed_by"))
    assert starts == [(1, "")] * 10 + [(0, "")] * 20


def test_a_fork_does_not_keep_a_dead_worker_alive(bench: Bench) -> None:
    """Given a child that inherited everything and outlives its parent, the parent's death is seen."""
    bench.send("a")
    code = (
        "import django, os, sys, time; django.setup()\n"
        "from djqueue.messaging import brokers\n"
        "source = brokers.broker('django://default').source(['default'], 'forker')\n"
        "source.open(lambda *_: None, lambda: None)\n"
        "assert len(source.receive(1)) == 1\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    sys.stdout.write('forked\\n'); sys.stdout.flush(); sys.stdin.read(); os._exit(0)\n"
        "sys.stdout.flush(); os.waitpid(child, 0)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    try:
        assert parent.stdout.readline() == "forked\n"
        parent.kill()
        parent.wait()
        assert ids(receive_within(bench.source(), 5, "for what the parent held")) == ["a"]
    finally:
        parent.stdin.close()  # the child ends
        parent.stdout.close()


def test_a_stopped_worker_is_not_dead(bench: Bench) -> None:
    bench.send("a")
    holder = bench.holder(claim=1)
    os.kill(holder.pid, 19)
    source = bench.source()
    for _ in range(3):
        tend(source)
        assert source.receive(1) == []


def test_a_late_answer_of_a_worker_taken_for_dead_is_fenced(bench: Bench, directory: Path) -> None:
    bench.send("a")
    slow = bench.source(consumer="slow")
    (delivery,) = slow.receive(1)
    slow.forget()  # type: ignore[attr-defined]  # as if the system had let go of its lock
    fast = bench.source(consumer="fast")
    (taken,) = fast.receive(1)
    assert slow.settle([delivery.ack()]) == [delivery]
    assert fast.settle([taken.ack()]) == []


def test_a_message_whose_ring_was_lost_is_found_within_a_round(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, sleeper = bench.watched_source()
    source.tend(time.monotonic())
    sleeper.is_woken(0)
    monkeypatch.setattr(doorbell, "ring", lambda *_: None)
    bench.send("a")
    assert not sleeper.is_woken(0.05)
    assert source.tend(time.monotonic()) <= 1.0
    wait_until(lambda: source.tend(time.monotonic()) and sleeper.is_woken(0), 5, "for the next round")
    assert ids(source.receive(1)) == ["a"]


def test_the_database_file_is_put_into_wal_mode(bench: Bench) -> None:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode=DELETE")
    bench.source()
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        assert cursor.fetchone() == ("wal",)


def test_claims_do_not_wait_for_the_disk_and_settlements_do(bench: Bench) -> None:
    bench.send("a")
    source = bench.source()
    (delivery,) = source.receive(1)
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA synchronous")
        assert cursor.fetchone() == (2,)
    source.settle([delivery.ack()])


def test_a_worker_waits_for_a_lock_and_a_sender_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given somebody who holds the write lock, a closing worker comes through as soon as it is let go."""
    bench.send("a")
    source = bench.source()
    source.receive(1)
    rogue = connection.copy()
    rogue.inc_thread_sharing()
    with rogue.cursor() as cursor:
        cursor.execute("BEGIN IMMEDIATE")
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout=20")
    with pytest.raises(OperationalError, match=r"database is locked.*held the write lock for longer"):
        bench.send("b")
    letting_go = threading.Timer(0.3, rogue.close)
    letting_go.start()
    source.close()
    letting_go.join()
    assert bench.broker.size("default") == 1
