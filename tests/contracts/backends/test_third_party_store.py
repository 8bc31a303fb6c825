"""Stores that others write: what the base does with their verbs, and how a setting finds them."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from djqueue import states
from djqueue.conf import settings
from djqueue.exceptions import BackendGetMetaError, BackendStoreError, ImproperlyConfigured
from djqueue.result.backends import backend
from djqueue_results.keyvalue import KeyValueBackend, TooLarge
from tests.support import third_party
from tests.support.results import document
from tests.support.servers import Server, free_port
from tests.support.third_party import PlainStore


class DictStore(KeyValueBackend):
    """The least that is a store."""

    def __init__(self, url: str = "", **options: object) -> None:
        super().__init__(url, **options)
        self.kept: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.kept.get(key)

    def set(self, key: str, value: bytes) -> None:
        if len(value) > 100_000:
            raise TooLarge(f"{len(value)} bytes are more than 100000.")
        self.kept[key] = value

    def delete(self, key: str) -> None:
        self.kept.pop(key, None)


DICT = f"{__name__}.DictStore"


def place(server: Server) -> str:
    return server.url.partition("://")[2]


def test_three_verbs_are_enough() -> None:
    store = DictStore()
    assert (store.counts_chords, store.expires_by_itself, store.joins_documents) == (False, False, False)
    store.store_many([document("a", value=1), document("b", states.STARTED)])
    store.store_many([document("a", states.FAILURE, starts=3)])
    assert list(store.kept) == ["celery-task-meta-a", "celery-task-meta-b"]
    found = store.fetch_many(["a", "b", "c"])
    assert [(name, one.status) for name, one in found.items()] == [("a", "SUCCESS"), ("b", "STARTED")]
    store.save_group("g", [["g", None], []])
    assert store.restore_group("g") == [["g", None], []]
    store.delete_group("g")
    store.forget_many(["a", "b"])
    assert store.kept == {}
    assert store.clean_up() == 0


def test_two_more_let_it_count_chords_and_forget() -> None:
    assert (PlainStore.counts_chords, PlainStore.expires_by_itself) == (True, True)


def test_what_is_too_large_becomes_a_failure() -> None:
    store = DictStore()
    store.store_many([document("large", value="x" * 200_000)])
    kept = store.fetch("large")
    assert kept is not None
    assert kept.status == states.FAILURE
    assert "too large" in str(kept.value())


def test_whatever_a_client_raises_means_that_the_store_is_away() -> None:
    store = PlainStore(f"x://127.0.0.1:{free_port()}/0")
    with pytest.raises(BackendStoreError, match="ConnectionError"):
        store.store_many([document("a")])
    with pytest.raises(BackendGetMetaError, match="ConnectionError"):
        store.fetch("a")


def test_lifetimes_are_told_to_the_store(redis_server: Server) -> None:
    store = PlainStore(f"x://{place(redis_server)}")
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushdb()
        with settings.override(RESULT_EXPIRES=1000):
            store.store_many([document("a", value=1)])
        assert 990 < int(client.ttl("celery-task-meta-a")) <= 1000  # type: ignore[arg-type]
        with settings.override(RESULT_EXPIRES=None):
            store.store_many([document("b", value=1)])
        assert client.ttl("celery-task-meta-b") == -1
    store.close()


def test_the_setting_names_the_class_with_an_address_or_without(redis_server: Server) -> None:
    with settings.override(RESULT_BACKEND=f"tests.support.third_party.PlainStore://{place(redis_server)}"):
        found = backend()
    assert isinstance(found, PlainStore)
    assert found.as_uri() == redis_server.url
    assert type(backend(DICT)).__name__ == "DictStore"


def test_or_the_scheme_that_a_package_announces(
    redis_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    third_party.announce(tmp_path, "plain", "tests.support.third_party:PlainStore")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = backend(f"plain://{place(redis_server)}")
    assert isinstance(found, PlainStore)
    with pytest.raises(ImproperlyConfigured, match=r"did you mean 'plain'\?.*'plain'"):
        backend("plane://somewhere")


@pytest.mark.parametrize(
    ("target", "says"),
    [("no.such.module:Store", "cannot be imported"), ("collections:OrderedDict", "is no ResultBackend")],
)
def test_what_a_package_announces_may_be_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, says: str
) -> None:
    third_party.announce(tmp_path, "broken", target)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImproperlyConfigured, match=says):
        backend("broken://somewhere")
