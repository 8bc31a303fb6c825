"""Chords whose parts run on both sides while results are in memcached: one counter, whoever counts on it.

Messages go over Redis. Either side sends; wherever the last part ends, the body follows once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import kombu.pools
import pytest
from celery import Celery
from celery import chord as celery_chord
from pymemcache.client.base import Client

from djqueue import AsyncResult, chain, chord, group
from djqueue.exceptions import ChordError
from tests.project import tasks
from tests.support.fleet import OURS, THEIRS, Fleet
from tests.support.ledger import STARTED, Ledger
from tests.support.servers import Server
from tests.support.waiting import wait_until
from tests.wire import stock
from tests.wire.stock import NAMES

pytestmark = pytest.mark.wire

WAIT = 30.0
#: in front of it we name the part; a stock worker cannot
RAISED = r"Expected\('broken'\)"
#: where the parts of the header run, and where the body does
PLACES = [
    ((OURS, OURS, OURS), THEIRS),
    ((THEIRS, THEIRS, THEIRS), OURS),
    ((OURS, THEIRS, OURS), OURS),
    ((THEIRS, OURS, THEIRS), THEIRS),
]


def _name(places: Any) -> str:
    return f"{'+'.join(places[0])} → {places[1]}"


@pytest.fixture(scope="module", autouse=True)
def both(fleet: Fleet, memcached_server: Server) -> None:
    fleet.djqueue(RESULT_BACKEND=memcached_server.url)
    fleet.celery(result_backend=memcached_server.url)


@pytest.fixture(autouse=True)
def sender(fleet: Fleet, memcached_server: Server, settings: Any) -> None:
    """Let this process send with djqueue."""
    settings.DJQUEUE = fleet.settings(RESULT_BACKEND=memcached_server.url)


@pytest.fixture
def celery(fleet: Fleet, memcached_server: Server) -> Iterator[Celery]:
    made = stock.client(fleet.broker, result_backend=memcached_server.url, task_default_queue=OURS)
    yield made
    made.backend.client.close()
    kombu.pools.reset()
    made.close()


@pytest.fixture
def kept(memcached_server: Server) -> Iterator[Client]:
    with closing(Client(memcached_server.url.partition("://")[2].rstrip("/"))) as client:
        yield client


def is_forgotten(kept: Client, group_id: str) -> None:
    """Wait until neither header nor counter is left of a chord."""
    keys = [f"chord-unlock-{group_id}", f"celery-taskset-meta-{group_id}"]
    wait_until(lambda: not kept.get_many(keys), WAIT, "for the chord's keys to go")


@pytest.mark.parametrize("places", PLACES, ids=_name)
def test_a_chord_of_djqueue(kept: Client, places: tuple[tuple[str, ...], str]) -> None:
    header, body = places
    parts = [tasks.add.s(number, number).set(queue=queue) for number, queue in enumerate(header)]
    result = chord(parts, tasks.total.s().set(queue=body)).delay()
    assert result.get(timeout=WAIT) == 6
    assert result.queue == body
    assert [one.queue for one in result.parent] == list(header)
    is_forgotten(kept, result.parent.id)


@pytest.mark.parametrize("places", PLACES, ids=_name)
def test_a_chord_of_celery(kept: Client, celery: Celery, places: tuple[tuple[str, ...], str]) -> None:
    header, body = places
    add, total = celery.signature(f"{NAMES}add"), celery.signature(f"{NAMES}total")
    parts = [add.clone((number, number)).set(queue=queue) for number, queue in enumerate(header)]
    result = celery_chord(parts, total.set(queue=body), app=celery).apply_async()
    assert result.get(timeout=WAIT, interval=0.05) == 6
    is_forgotten(kept, result.parent.id)


@pytest.mark.parametrize("places", PLACES, ids=_name)
def test_a_part_that_fails_fails_the_body(celery: Celery, places: tuple[tuple[str, ...], str]) -> None:
    header, body = places
    parts: list[Any] = [tasks.fail.si("broken").set(queue=header[0])]
    parts += [tasks.add.s(1, 1).set(queue=queue) for queue in header[1:]]
    result = chord(parts, tasks.total.s().set(queue=body)).delay()
    with pytest.raises(ChordError, match=RAISED):
        result.get(timeout=WAIT, follow_parents=False)
    add, fail = celery.signature(f"{NAMES}add"), celery.signature(f"{NAMES}fail")
    theirs = [fail.clone(("broken",)).set(queue=header[0])]
    theirs += [add.clone((1, 1)).set(queue=queue) for queue in header[1:]]
    total = celery.signature(f"{NAMES}total").set(queue=body)
    sent = celery_chord(theirs, total, app=celery).apply_async()
    with pytest.raises(ChordError, match=RAISED):
        AsyncResult(sent.id).get(timeout=WAIT)


@pytest.mark.parametrize("queues", [(OURS, THEIRS), (THEIRS, OURS)], ids=" → ".join)
def test_a_workflow_of_djqueue_crosses_the_border_at_every_step(queues: tuple[str, str]) -> None:
    one, two = queues
    add, total = tasks.add, tasks.total
    flow = chain(
        add.s(1, 1).set(queue=one),
        group(add.s(1).set(queue=two), add.s(2).set(queue=one) | add.s(1).set(queue=two)),
        total.s().set(queue=two),
        add.s(10).set(queue=one),
        group(add.s(1).set(queue=one), add.s(2).set(queue=two)),
        total.s().set(queue=one),
    )
    assert flow.delay().get(timeout=WAIT) == 39


@pytest.mark.parametrize("queues", [(OURS, THEIRS), (THEIRS, OURS)], ids=" → ".join)
def test_results_of_groups_in_a_header_keep_their_shape(queues: tuple[str, str]) -> None:
    one, two = queues
    inner = tasks.add.s(1, 1).set(queue=two) | group(
        tasks.add.s(1).set(queue=one), tasks.add.s(2).set(queue=two)
    )
    result = chord([inner, tasks.add.s(4, 4).set(queue=two)], tasks.echo.s().set(queue=one)).delay()
    assert result.get(timeout=WAIT) == [[[[3, 4], 8]], {}]


def test_parts_whose_results_nobody_wants_are_kept_for_the_body() -> None:
    parts = [
        tasks.add.s(number, 1).set(queue=queue, ignore_result=True)
        for number, queue in enumerate((OURS, THEIRS))
    ]
    assert chord(parts, tasks.total.s().set(queue=OURS)).delay().get(timeout=WAIT) == 3


def test_a_body_runs_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    sent = [
        chord(
            [tasks.add.s(part, number).set(queue=(OURS, THEIRS)[part % 2]) for part in range(6)],
            tasks.record.si(str(ledger.path)).set(task_id=f"body-{number}", queue=OURS),
        ).delay()
        for number in range(20)
    ]
    assert {one.get(timeout=WAIT) for one in sent} == {"recorded"}
    assert sorted(ledger.ids(STARTED)) == sorted(f"body-{number}" for number in range(20))
