"""Results in stores beside Redis: workers and clients of both systems read what either has written there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery import chord as celery_chord

from djqueue import app, chord
from tests.project import tasks
from tests.support import amazon, clouds
from tests.support.databases import empty_tables, sql_url
from tests.support.fleet import OURS, THEIRS, Fleet
from tests.wire import stock
from tests.wire.stock import NAMES, Expected

pytestmark = pytest.mark.wire

WAIT = 30.0


@pytest.fixture(
    scope="module", params=["files", "sqlite", "postgresql", "mariadb", "s3", "dynamodb", "azure", "gs"]
)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the settings of a store, by djqueue's names."""
    directory = tmp_path_factory.mktemp("results")
    if request.param == "files":
        return {"RESULT_BACKEND": f"file://{directory}"}
    if request.param in ("s3", "dynamodb"):
        url = request.getfixturevalue("amazon_server").url
        if request.param == "s3":
            return {"RESULT_BACKEND": "s3://", **amazon.s3_settings(url)}
        return {"RESULT_BACKEND": amazon.table_address(url)}
    if request.param == "azure":
        return clouds.azure_settings(request.getfixturevalue("azure_server").url)
    if request.param == "gs":
        return clouds.google_settings(request.getfixturevalue("google_server").url)
    return {"RESULT_BACKEND": empty_tables(sql_url(request.param, request, directory))}


@pytest.fixture(scope="module")
def theirs(place: dict[str, Any]) -> dict[str, Any]:
    """Return the same settings as Celery calls them."""
    told = {name.lower(): value for name, value in place.items()}
    return {**told, "result_backend": clouds.as_celery_has_it(place["RESULT_BACKEND"])}


@pytest.fixture(scope="module", autouse=True)
def workers(fleet: Fleet, place: dict[str, Any], theirs: dict[str, Any]) -> Iterator[None]:
    ships = [fleet.djqueue(**place), fleet.celery(**theirs)]
    yield
    for ship in ships:
        ship.terminate(within=30)


@pytest.fixture
def celery(fleet: Fleet, theirs: dict[str, Any]) -> Iterator[Celery]:
    told = {**fleet.stock_settings, "task_default_queue": OURS, **theirs}
    made = stock.client(fleet.broker, **told)
    yield made
    made.close()


@pytest.fixture
def djqueue(fleet: Fleet, settings: Any, place: dict[str, Any]) -> None:
    settings.DJQUEUE = fleet.settings(**place)


def test_a_stock_client_reads_what_our_worker_stored(celery: Celery) -> None:
    results = [celery.send_task(f"{NAMES}add", (number, 1)) for number in range(20)]
    assert [result.get(timeout=WAIT, interval=0.05) for result in results] == list(range(1, 21))
    first = results[0]
    assert (first.name, first.args, first.queue, first.retries) == (f"{NAMES}add", [0, 1], OURS, 0)
    failed = celery.send_task(f"{NAMES}fail", ("out of ink",))
    with pytest.raises((Expected, tasks.Expected), match="out of ink"):
        failed.get(timeout=WAIT, interval=0.05)
    assert "out of ink" in failed.traceback


@pytest.mark.usefixtures("djqueue")
def test_we_read_what_a_stock_worker_stored() -> None:
    results = [app.send_task(f"{NAMES}add", (number, 1), queue=THEIRS) for number in range(20)]
    assert [result.get(timeout=WAIT) for result in results] == list(range(1, 21))
    first = results[0]
    assert (first.name, first.args, first.queue) == (f"{NAMES}add", "(0, 1)", THEIRS)
    assert first.date_done is not None
    failed = app.send_task(f"{NAMES}fail", ("out of ink",), queue=THEIRS)
    with pytest.raises((Expected, tasks.Expected), match="out of ink"):
        failed.get(timeout=WAIT)


@pytest.mark.usefixtures("djqueue")
def test_our_chord_is_completed_from_parts_of_both_sides() -> None:
    header = [tasks.add.s(number, 1).set(queue=(OURS, THEIRS)[number % 2]) for number in range(4)]
    assert chord(header)(tasks.total.s().set(queue=OURS)).get(timeout=WAIT) == 10


def test_a_stock_chord_is_completed_from_parts_of_both_sides(celery: Celery) -> None:
    add, total = celery.signature(f"{NAMES}add"), celery.signature(f"{NAMES}total")
    header = [add.clone((number, 1)).set(queue=(OURS, THEIRS)[number % 2]) for number in range(4)]
    body = total.clone().set(queue=THEIRS)
    assert celery_chord(header, app=celery)(body).get(timeout=WAIT, interval=0.05) == 10
