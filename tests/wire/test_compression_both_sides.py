"""Compressed results across the border: what either side writes, the other reads, waits for and completes.

Both workers compress; the clients are told nothing of it, as the bytes say it themselves.
"""

from __future__ import annotations

from typing import Any

import pytest
import redis
from celery import Celery
from celery import chord as celery_chord

from djqueue import chain, chord, group
from tests.project import tasks
from tests.support.fleet import OURS, THEIRS, Fleet
from tests.wire.stock import NAMES

pytestmark = [
    pytest.mark.wire,
    pytest.mark.usefixtures("djqueue"),
    # Celery's own business
    pytest.mark.filterwarnings("ignore:Call to deprecated setex"),
]

WAIT = 30.0
BEGIN = b"\0celery-compressed\0application/x-gzip\0"
LONG = "æ " * 5000


@pytest.fixture(scope="module", autouse=True)
def both(fleet: Fleet) -> None:
    fleet.djqueue(RESULT_COMPRESSION="zlib", RESULT_FAILURE_EXPIRES=600)
    fleet.celery(result_compression="zlib", result_failure_expires=600, task_track_started=True)


def is_compressed(server: redis.Redis, task_id: str) -> bool:
    """Return whether the stored document is in Celery's compressed form."""
    return bool(server.get(f"celery-task-meta-{task_id}").startswith(BEGIN))


@pytest.mark.parametrize("queue", [OURS, THEIRS])
def test_either_client_reads_what_either_worker_compresses(
    server: redis.Redis, celery: Celery, queue: str
) -> None:
    ours = tasks.echo.apply_async((LONG,), queue=queue)
    theirs = celery.signature(f"{NAMES}echo").apply_async((LONG,), queue=queue)
    assert ours.get(timeout=WAIT) == theirs.get(timeout=WAIT) == [[LONG], {}]
    assert celery.AsyncResult(ours.id).get(timeout=WAIT) == [[LONG], {}]
    assert is_compressed(server, ours.id)
    assert is_compressed(server, theirs.id)
    assert server.ttl(f"celery-task-meta-{ours.id}") > 86_000
    assert len(server.get(f"celery-task-meta-{ours.id}")) < len(LONG) / 10


@pytest.mark.parametrize("queue", [OURS, THEIRS])
def test_failures_are_compressed_and_raised_and_live_as_long_as_they_are_told_to(
    server: redis.Redis, celery: Celery, queue: str
) -> None:
    failed = tasks.fail.apply_async(("broken",), queue=queue)
    with pytest.raises(Exception, match="broken"):
        failed.get(timeout=WAIT)
    with pytest.raises(Exception, match="broken"):
        celery.AsyncResult(failed.id).get(timeout=WAIT)
    assert is_compressed(server, failed.id)
    assert 500 < server.ttl(f"celery-task-meta-{failed.id}") <= 600


@pytest.mark.parametrize("places", [(OURS, THEIRS, OURS), (THEIRS, OURS, THEIRS)], ids=" → ".join)
def test_chords_of_either_side_are_completed(celery: Celery, places: tuple[str, ...]) -> None:
    *header, body = places
    parts = [tasks.add.s(number, number).set(queue=queue) for number, queue in enumerate(header)]
    assert chord(parts, tasks.total.s().set(queue=body)).delay().get(timeout=WAIT) == 2
    add, total = celery.signature(f"{NAMES}add"), celery.signature(f"{NAMES}total")
    theirs: list[Any] = [add.clone((n, n)).set(queue=queue) for n, queue in enumerate(header)]
    assert celery_chord(theirs, total.set(queue=body), app=celery).apply_async().get(timeout=WAIT) == 2
    flow = chain(
        tasks.add.s(1, 1).set(queue=header[0]),
        group(tasks.add.s(1).set(queue=header[1]), tasks.add.s(2).set(queue=header[0])),
        tasks.total.s().set(queue=body),
    )
    assert flow.delay().get(timeout=WAIT) == 7
