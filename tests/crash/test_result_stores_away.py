"""Result stores that are away while tasks end: workers hold on to what has ended, and nothing is lost.

A directory is renamed; connections to the others go through a proxy that refuses them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from djqueue import AsyncResult
from tests.project import tasks
from tests.support import amazon, clouds
from tests.support.databases import empty_tables, sql_url, through
from tests.support.processes import Command, Processes
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

pytestmark = pytest.mark.crash

WAIT = 30.0


class Place(NamedTuple):
    """A store's settings, and how to take it away and give it back."""

    settings: dict[str, Any]
    take: Callable[[], object]
    give: Callable[[], object]
    #: where Google's client looks for the address
    environment: dict[str, str] = {}


@pytest.fixture(params=["files", "sql in postgresql", "s3", "dynamodb", "azure", "gs"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    if request.param == "files":
        here, away = tmp_path / "results", tmp_path / "away"
        here.mkdir()
        given = {"RESULT_BACKEND": f"file://{here}"}
        settings.DJQUEUE = given
        yield Place(given, lambda: here.rename(away), lambda: away.rename(here))
        return
    if request.param == "sql in postgresql":
        address = empty_tables(sql_url("postgresql", request, tmp_path))
    elif request.param in ("azure", "gs"):
        address = request.getfixturevalue({"azure": "azure_server", "gs": "google_server"}[request.param]).url
    else:
        address = request.getfixturevalue("amazon_server").url
    proxy = Proxy(address)
    if request.param == "s3":
        given = {"RESULT_BACKEND": "s3://", **amazon.s3_settings(address), "S3_ENDPOINT_URL": proxy.url}
    elif request.param == "dynamodb":
        given = {"RESULT_BACKEND": amazon.table_address(proxy.url)}
    elif request.param == "azure":
        given = clouds.azure_settings(proxy.url)
    elif request.param == "gs":
        given = clouds.google_settings(address)
        monkeypatch.setenv(clouds.EMULATOR, proxy.url)
    else:
        given = {"RESULT_BACKEND": through(address, proxy)}
    settings.DJQUEUE = given
    environment = {clouds.EMULATOR: proxy.url} if request.param == "gs" else {}
    yield Place(given, lambda: proxy.cut(refuse=True), proxy.heal, environment)
    proxy.close()


def start(processes: Processes, place: Place) -> Command:
    worker = processes.start("runworker", "-c", "1", settings=place.settings, **place.environment)
    worker.wait_for_line("djq.worker.ready", within=WAIT)
    return worker


def running() -> AsyncResult[float]:
    """Start a task that takes a moment, and return when it runs."""
    result: AsyncResult[float] = tasks.nap.delay(1.5)
    wait_until(lambda: result.state == "STARTED", WAIT, "the task to be seen running")
    return result


def test_what_ends_meanwhile_is_stored_afterwards(processes: Processes, place: Place) -> None:
    worker = start(processes, place)
    result = running()
    place.take()
    worker.wait_for_line("djq.result.deferred", within=WAIT)
    place.give()
    worker.wait_for_line("djq.result.stored", within=WAIT)
    assert result.get(timeout=WAIT) == 1.5
    assert tasks.add.delay(1, 2).get(timeout=WAIT) == 3
    assert worker.terminate(within=WAIT) == 0
    assert amazon.SECRET not in worker.log()
    assert clouds.SECRET not in worker.log()


def test_a_worker_that_is_killed_before_it_could_store_loses_nothing(
    processes: Processes, place: Place
) -> None:
    worker = start(processes, place)
    result = running()
    place.take()
    worker.wait_for_line("djq.result.deferred", within=WAIT)
    worker.kill()
    place.give()
    assert result.state == "STARTED"
    start(processes, place)
    assert result.get(timeout=WAIT) == 1.5
