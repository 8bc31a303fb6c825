"""From the setting to the store: aliases, dotted paths, and what is said when there is none."""

from __future__ import annotations

import pytest

from djqueue import AsyncResult
from djqueue.conf import settings
from djqueue.exceptions import ImproperlyConfigured
from djqueue.result import backends
from djqueue.result.documents import Document
from tests.support.in_process import STORE, DictStore


def test_there_is_one_store_per_address(store: DictStore) -> None:
    assert backends.backend() is store
    assert backends.backend(STORE) is store
    assert isinstance(backends.backend("disabled"), backends.DisabledBackend)
    assert backends.backend("disabled://") is not backends.backend("disabled")


def test_stores_are_told_of_forks_and_closed_when_forgotten(store: DictStore) -> None:
    backends.after_fork()
    assert store.was_forked
    backends.reset()
    assert store.was_closed
    assert backends.backend() is not store


def test_with_the_results_app_installed_its_store_is_the_default() -> None:
    with settings.override(RESULT_BACKEND=None):
        assert type(backends.backend()).__name__ == "DatabaseBackend"
        assert backends.backend("django-db") is backends.backend()


def test_without_it_nothing_is_kept_and_reading_says_how_to_change_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("djqueue.result.backends.apps.is_installed", lambda name: False)
    with settings.override(RESULT_BACKEND=None):
        disabled = backends.backend()
        assert not disabled.keeps
        disabled.store_many([Document("i", "SUCCESS")])
        disabled.forget_many(["i"])
        assert disabled.clean_up() == 0
        assert disabled.as_uri() == "disabled"
        result = AsyncResult[int]("i")
        for ask in (lambda: result.state, lambda: result.get(timeout=1), result.ready):
            with pytest.raises(backends.ResultsDisabled, match="Add 'djqueue_results' to INSTALLED_APPS"):
                ask()
        with pytest.raises(NotImplementedError):
            result.ready()


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("django-dv", "did you mean 'django-db'"),
        ("carrier-pigeon", "known are 'disabled', 'django-db'"),
        ("no.such.Store", "cannot be imported"),
        ("collections.OrderedDict", "is no ResultBackend"),
    ],
)
def test_a_store_that_does_not_exist_is_refused(address: str, says: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=says):
        backends.backend(address)
