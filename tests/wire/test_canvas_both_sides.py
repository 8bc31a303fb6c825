"""Chords and groups whose parts run on both sides, whoever sends them and wherever the body runs.

Stock Celery and djqueue share one counter in Redis; what either counts, the other completes.
"""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import pytest
import redis
from celery import Celery
from celery import chain as celery_chain
from celery import chord as celery_chord
from celery import group as celery_group

from djqueue import AsyncResult, GroupResult, chain, chord, group
from djqueue.exceptions import ChordError
from tests.project import tasks
from tests.support.fleet import OURS, THEIRS, Fleet
from tests.support.waiting import wait_until
from tests.wire.stock import NAMES

pytestmark = [
    pytest.mark.wire,
    pytest.mark.usefixtures("djqueue"),
    # Celery's own business
    pytest.mark.filterwarnings("ignore:Call to deprecated setex"),
]

WAIT = 30.0
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
def both(fleet: Fleet) -> None:
    fleet.djqueue()
    fleet.celery()


def is_forgotten(server: redis.Redis, group_id: str) -> None:
    """Wait until nothing is left of a chord but that it is done."""

    def left() -> bool:
        keys = {key.decode().rpartition(".")[2] for key in server.keys(f"celery-taskset-meta-{group_id}.*")}
        return keys <= {"c"} and server.get(f"celery-taskset-meta-{group_id}.c") in (b"done", None)

    wait_until(left, WAIT, "for the chord's keys to go")


@pytest.mark.parametrize("places", PLACES, ids=_name)
def test_a_chord_of_djqueue(server: redis.Redis, places: tuple[tuple[str, ...], str]) -> None:
    header, body = places
    parts = [tasks.add.s(number, number).set(queue=queue) for number, queue in enumerate(header)]
    result = chord(parts, tasks.total.s().set(queue=body)).delay()
    assert result.get(timeout=WAIT) == 6
    assert result.queue == body
    assert [one.queue for one in result.parent] == list(header)
    is_forgotten(server, result.parent.id)


@pytest.mark.parametrize("places", PLACES, ids=_name)
def test_a_chord_of_celery(server: redis.Redis, celery: Celery, places: tuple[tuple[str, ...], str]) -> None:
    header, body = places
    add, total = celery.signature(f"{NAMES}add"), celery.signature(f"{NAMES}total")
    parts = [add.clone((number, number)).set(queue=queue) for number, queue in enumerate(header)]
    result = celery_chord(parts, total.set(queue=body), app=celery).apply_async()
    assert result.get(timeout=WAIT) == 6
    is_forgotten(server, result.parent.id)


@pytest.mark.parametrize("places", PLACES, ids=_name)
def test_a_part_that_fails_fails_the_body(places: tuple[tuple[str, ...], str]) -> None:
    header, body = places
    last = tasks.fail.si("broken").set(queue=header[2])
    parts = [*(tasks.add.s(1, 1).set(queue=queue) for queue in header[:2]), last]
    result = chord(parts, tasks.total.s().set(queue=body)).delay()
    with pytest.raises(ChordError, match=r"Dependency .* raised Expected"):
        result.get(timeout=WAIT, follow_parents=False)


@pytest.mark.parametrize("places", PLACES, ids=_name)
def test_a_part_that_fails_fails_celerys_body(celery: Celery, places: tuple[tuple[str, ...], str]) -> None:
    header, body = places
    add, fail = celery.signature(f"{NAMES}add"), celery.signature(f"{NAMES}fail")
    parts = [fail.clone(("broken",)).set(queue=header[0])]
    parts += [add.clone((1, 1)).set(queue=queue) for queue in header[1:]]
    total = celery.signature(f"{NAMES}total").set(queue=body)
    result = celery_chord(parts, total, app=celery).apply_async()
    with pytest.raises(ChordError, match=r"Dependency .* raised Expected"):
        AsyncResult(result.id).get(timeout=WAIT)


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
def test_a_workflow_of_celery_crosses_the_border_at_every_step(
    celery: Celery, queues: tuple[str, str]
) -> None:
    one, two = queues
    add, total = celery.signature(f"{NAMES}add"), celery.signature(f"{NAMES}total")

    def plus(number: int, queue: str) -> Any:
        return add.clone((number,)).set(queue=queue)

    flow = celery_chain(
        add.clone((1, 1)).set(queue=one),
        celery_group(plus(1, two), celery_chain(plus(2, one), plus(1, two), app=celery), app=celery),
        total.clone().set(queue=two),
        plus(10, one),
        celery_group(plus(1, one), plus(2, two), app=celery),
        total.clone().set(queue=one),
        app=celery,
    )
    assert flow.apply_async().get(timeout=WAIT) == 39


@pytest.mark.parametrize("queues", [(OURS, THEIRS), (THEIRS, OURS)], ids=" → ".join)
def test_results_of_groups_in_a_header_keep_their_shape(queues: tuple[str, str]) -> None:
    one, two = queues
    inner = tasks.add.s(1, 1).set(queue=two) | group(
        tasks.add.s(1).set(queue=one), tasks.add.s(2).set(queue=two)
    )
    result = chord([inner, tasks.add.s(4, 4).set(queue=two)], tasks.echo.s().set(queue=one)).delay()
    assert result.get(timeout=WAIT) == [[[[3, 4], 8]], {}]


@pytest.mark.parametrize("queue", [OURS, THEIRS])
def test_a_map_runs_on_either_side(queue: str) -> None:
    assert tasks.add.starmap([(1, 1), (2, 2)]).set(queue=queue).delay().get(timeout=WAIT) == [2, 4]
    assert tasks.add.chunks([(n, n) for n in range(5)], 2).set(queue=queue).delay().get(timeout=WAIT) == [
        [0, 2],
        [4, 6],
        [8],
    ]


def test_a_group_that_one_side_saved_the_other_restores(celery: Celery, server: redis.Redis) -> None:
    ours = group(tasks.add.s(1, 1), tasks.add.s(2, 2).set(queue=THEIRS)).delay()
    ours.save()
    stored = json.loads(server.get(f"celery-taskset-meta-{ours.id}"))
    assert stored == {"result": [[ours.id, None], [[[one.id, None], None] for one in ours]]}
    assert celery.GroupResult.restore(ours.id).get(timeout=WAIT) == [2, 4]
    add = celery.signature(f"{NAMES}add")
    theirs = celery_group(add.clone((3, 3)), add.clone((4, 4)).set(queue=THEIRS), app=celery).apply_async()
    theirs.save()
    restored = GroupResult.restore(theirs.id)
    assert restored is not None
    assert restored.get(timeout=WAIT) == [6, 8]


def test_the_message_of_a_part_is_the_one_celery_sends(celery: Celery, server: redis.Redis) -> None:
    body = tasks.total.s().set(queue="nobody")
    result = chord(
        [tasks.add.s(1, 1).set(queue="nobody"), tasks.add.s(2, 2).set(queue="nobody")], body
    ).delay()
    add, total = celery.signature(f"{NAMES}add"), celery.signature(f"{NAMES}total").set(queue="elsewhere")
    parts = [add.clone((number, number)).set(queue="elsewhere") for number in (1, 2)]
    theirs = celery_chord(parts, total, app=celery).apply_async()
    messages = [described(server, queue) for queue in ("nobody", "elsewhere")]
    assert messages[0] == messages[1]
    keys = [sorted(server.keys(f"celery-taskset-meta-{one.parent.id}*")) for one in (result, theirs)]
    assert [[key[-2:] for key in some] for some in keys] == [[b".s"], [b".s"]]
    assert [server.get(some[0]) for some in keys] == [b"2", b"2"]


def described(server: redis.Redis, queue: str) -> list[Any]:
    """Return what the waiting messages say, without what differs from one sending to the next."""
    found = []
    for raw in reversed(server.lrange(queue, 0, -1)):
        message = json.loads(raw)
        headers = message["headers"]
        body = json.loads(b64decode(message["body"]))
        embed = body[2]
        options = {
            name: value if name == "queue" else type(value).__name__
            for name, value in embed["chord"]["options"].items()
        }
        options["queue"] = "q"
        embed["chord"] = {**embed["chord"], "options": options}
        kept = {
            name: headers[name] for name in ("task", "group_index", "retries", "timelimit", "ignore_result")
        }
        found.append([kept, list(headers), type(headers["group"]).__name__, body])
    return found
