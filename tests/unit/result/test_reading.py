"""What handles remember of results, and how they ask a store that is away: as the settings say.

The store counts how often it is asked, and fails as often as a test wants.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from djqueue import AsyncResult, ResultSet, exceptions, states
from djqueue.conf import settings
from djqueue.result.documents import Document
from tests.support.in_process import DictStore
from tests.support.results import document


class Away(DictStore):
    """A store that cannot be read the next `failing` times."""

    def __init__(self, url: str = "", **options: Any) -> None:
        super().__init__(url, **options)
        self.asked = 0
        self.failing = 0.0

    def fetch_many(self, task_ids: Sequence[str]) -> Mapping[str, Document]:
        """Fail, or return what is kept."""
        self.asked += 1
        if self.failing > 0:
            self.failing -= 1
            raise exceptions.BackendGetMetaError("away", task_id=task_ids[0])
        return super().fetch_many(task_ids)


@pytest.fixture
def away() -> Away:
    store = Away()
    store.store_many([document(name, value=name) for name in "abc"])
    store.store_many([document("failed", states.FAILURE), document("running", states.STARTED)])
    return store


def test_by_default_each_handle_asks_and_an_error_is_raised(away: Away) -> None:
    assert [AsyncResult("a", away).state for _ in range(3)] == ["SUCCESS"] * 3
    assert away.asked == 3
    away.failing = 1
    with pytest.raises(exceptions.BackendGetMetaError):
        AsyncResult("a", away).get(timeout=1)


# Remembering


def test_what_one_handle_has_read_another_one_knows(away: Away) -> None:
    with settings.override(RESULT_CACHE_MAX=10):
        for _ in range(3):
            assert AsyncResult("a", away).get(timeout=1) == "a"
            assert [one.state for one in ResultSet([AsyncResult(name, away) for name in "ab"])] == [
                "SUCCESS"
            ] * 2
    assert away.asked == 2


def test_so_many_are_remembered_and_the_one_nobody_asks_for_goes_first(away: Away) -> None:
    with settings.override(RESULT_CACHE_MAX=2):
        for name in ("a", "b", "a", "c", "a"):
            assert AsyncResult(name, away).result == name
        assert away.asked == 3
        assert AsyncResult("b", away).result == "b"
    assert away.asked == 4


def test_without_limit_all_are(away: Away) -> None:
    with settings.override(RESULT_CACHE_MAX=0):
        for name in "abcabc":
            assert AsyncResult(name, away).result == name
    assert away.asked == 3


@pytest.mark.parametrize("name", ["failed", "running", "unknown"])
def test_what_may_still_change_is_not_remembered(away: Away, name: str) -> None:
    with settings.override(RESULT_CACHE_MAX=10):
        before = AsyncResult(name, away).state
        assert AsyncResult(name, away).state == before
    assert away.asked == 2


def test_what_is_forgotten_is_not_remembered_either(away: Away) -> None:
    with settings.override(RESULT_CACHE_MAX=10):
        assert AsyncResult("a", away).result == "a"
        AsyncResult("a", away).forget()
        assert AsyncResult("a", away).state == states.PENDING


# Asking again


def test_a_store_that_is_away_is_asked_again(away: Away) -> None:
    with settings.override(RESULT_BACKEND_ALWAYS_RETRY=True):
        for ask in (
            lambda: AsyncResult("a", away).state,
            lambda: AsyncResult("a", away).get(timeout=30),
            lambda: ResultSet([AsyncResult("a", away), AsyncResult("b", away)]).get(timeout=30),
        ):
            away.failing = 4
            ask()
            assert away.failing == 0


def test_it_is_asked_so_many_times(away: Away) -> None:
    with settings.override(RESULT_BACKEND_ALWAYS_RETRY=True, RESULT_BACKEND_MAX_RETRIES=2):
        away.failing = 5
        with pytest.raises(exceptions.BackendGetMetaError):
            AsyncResult("a", away).get(timeout=30)
    assert away.asked == 3


def test_pauses_get_longer_up_to_the_longest(away: Away, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("djqueue.result.reading.time.sleep", slept.append)
    monkeypatch.setattr("djqueue.result.reading.random.uniform", lambda least, most: most)
    away.failing = 5
    names = {"BASE": 100, "MAX": 500}
    pauses = {f"RESULT_BACKEND_{name}_SLEEP_BETWEEN_RETRIES_MS": value for name, value in names.items()}
    with settings.override(RESULT_BACKEND_ALWAYS_RETRY=True, **pauses):
        assert AsyncResult("a", away).state == states.SUCCESS
    assert slept == [0.1, 0.2, 0.4, 0.5, 0.5]


def test_who_waits_only_for_a_time_is_told_when_it_is_over(away: Away) -> None:
    away.failing = float("inf")
    begun = time.monotonic()
    with settings.override(RESULT_BACKEND_ALWAYS_RETRY=True), pytest.raises(exceptions.TimeoutError):
        AsyncResult("a", away).get(timeout=0.1)
    assert time.monotonic() - begun < 5
