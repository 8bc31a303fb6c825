"""From the setting to the store: aliases, dotted paths, and what is said when there is none."""

from __future__ import annotations

from pathlib import Path

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


def test_distributions_bring_stores_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "pigeons-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: pigeons\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text(
        "[djqueue.result_backends]\npigeon = tests.support.in_process:DictStore\nlost = no.such:Store\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for address in ("pigeon", "pigeon://loft"):
        store = backends.backend(address)
        assert isinstance(store, DictStore)
        assert store.url == address
    with pytest.raises(ImproperlyConfigured, match="'lost' cannot be imported"):
        backends.backend("lost")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("django-dv", r"did you mean 'django-db'\?.*'django-cache', 'django-db',.* 'file',.* 'redis'"),
        ("carrier-pigeon", "known are .*'django-cache', 'django-db',.* 'file',.* 'redis',.*'rpc'"),
        ("riak://host/name", "Celery has the store 'riak', and djqueue has not: known are .*'redis'"),
        ("elasticsearch+https://a:secret@host", r"(?!.*secret).*djqueue has not"),
        ("no.such.Store", "cannot be imported"),
        ("collections.OrderedDict", "is no ResultBackend"),
    ],
)
def test_a_store_that_does_not_exist_is_refused(address: str, says: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=says):
        backends.backend(address)
