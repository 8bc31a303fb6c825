"""What the store in Google's storage does beyond the others, asked of an emulator, which is in its place.

Objects and their times are looked at with Google's own client.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.cloud import storage

from djqueue import states
from djqueue.conf import settings
from djqueue.exceptions import BackendGetMetaError, BackendStoreError, ImproperlyConfigured
from djqueue.result.contract import ResultBackend
from djqueue_results.backends.keyvalue import google_storage
from djqueue_results.backends.keyvalue.google_storage import GoogleStorageBackend
from tests.contracts.backends import places
from tests.support import clouds
from tests.support.results import document
from tests.support.servers import Server, free_port
from tests.support.waiting import wait_until


@pytest.fixture
def place(google_server: Server) -> dict[str, Any]:
    """Return the settings that lead to an empty bucket."""
    return clouds.google_settings(google_server.url)


@pytest.fixture
def store(place: dict[str, Any]) -> Iterator[ResultBackend]:
    with places.opened(place) as made:
        yield made


@pytest.fixture
def bucket(place: dict[str, Any]) -> Iterator[Any]:
    """Return Google's client of the bucket, beside the store's."""
    client = storage.Client(project="shop")
    yield client.bucket(place["RESULT_BACKEND"].split("/")[2])
    client.close()


def test_names_of_objects_are_celerys_after_the_path(store: ResultBackend, bucket: Any) -> None:
    store.store_many([document("a", value=1)])
    assert [one.name for one in bucket.list_blobs()] == ["some/where/celery-task-meta-a"]
    assert store.as_uri() == f"gs://{bucket.name}/some/where/"


def test_old_objects_are_cleaned_up_and_no_others(store: ResultBackend, bucket: Any) -> None:
    store.store_many([document(f"task-{number}") for number in range(30)])
    store.save_group("group", [["group", None], []])
    bucket.blob("some/where/else").upload_from_string(b"not ours")
    assert store.clean_up() == 0
    stored_by = time.time()
    with settings.override(RESULT_EXPIRES=0.01):
        wait_until(lambda: time.time() > stored_by + 0.02, 5, "for the results to expire")
        assert store.clean_up() == 30
    with settings.override(RESULT_EXPIRES=None):
        assert store.clean_up() == 0
    assert [one.name for one in bucket.list_blobs()] == ["some/where/else"]


def test_settings_say_what_the_address_leaves_out(place: Any, bucket: Any) -> None:
    told = {"GCS_BUCKET": bucket.name, "GCS_PROJECT": "shop", "GCS_BASE_PATH": "/else/where/"}
    with settings.override(**told):
        store = GoogleStorageBackend("gs://")
        store.store_many([document("a", value=1)])
        assert store.as_uri() == f"gs://{bucket.name}/else/where/"
        assert GoogleStorageBackend(place["RESULT_BACKEND"]).as_uri() == f"gs://{bucket.name}/some/where/"
    with settings.override(**{**told, "GCS_BASE_PATH": None}):
        GoogleStorageBackend("gs://").store_many([document("b", value=1)])
    assert sorted(one.name for one in bucket.list_blobs()) == [
        "celery-task-meta-b",
        "else/where/celery-task-meta-a",
    ]


@pytest.mark.parametrize(
    ("told", "query"), [({"GCS_TTL": 3600}, ""), ({"GCS_TTL": 9}, "&gcs_ttl=3600"), ({}, "&ttl=3600")]
)
def test_objects_say_when_their_time_is_over(
    place: Any, bucket: Any, told: dict[str, Any], query: str
) -> None:
    bucket.add_lifecycle_delete_rule(days_since_custom_time=0)
    bucket.patch()
    with settings.override(**told, RESULT_EXPIRES=0.01):
        store = GoogleStorageBackend(place["RESULT_BACKEND"] + query)
        store.store_many([document("a", value=1)])
        (only,) = bucket.list_blobs()
        assert timedelta(seconds=3_500) < only.custom_time - datetime.now(UTC) <= timedelta(seconds=3_600)
        assert store.clean_up() == 0  # that is left to the rule


def test_a_time_without_a_rule_that_ends_it_is_refused(place: Any) -> None:
    with (
        settings.override(GCS_TTL=60),
        pytest.raises(ImproperlyConfigured, match=r"GCS_TTL.*no lifecycle rule"),
    ):
        GoogleStorageBackend(place["RESULT_BACKEND"])


def test_a_bucket_that_cannot_be_asked_for_its_rules_may_be_used(place: Any) -> None:
    with settings.override(GCS_TTL=60):
        store = GoogleStorageBackend("gs://there-is-none?gcs_project=shop")
        with pytest.raises(BackendStoreError, match="404") as caught:
            store.store_many([document("a", value=1)])
    assert (caught.value.task_id, caught.value.state) == ("a", states.SUCCESS)


def test_objects_too_large_for_one_request_are_kept(store: ResultBackend) -> None:
    value = "æ" * (9 << 20)
    store.store_many([document("a", states.STARTED)])
    store.store_many([document("a", value=value)])
    store.store_many([document("a", states.FAILURE)])
    kept = store.fetch("a")
    assert kept is not None
    assert kept.value() == value


@pytest.mark.parametrize(
    ("told", "url", "says"),
    [
        ({}, "gs://", "GCS_BUCKET"),
        ({"GCS_PROJECT": "shop"}, "gs:///path", "GCS_BUCKET"),
        ({"GCS_PROJECT": "shop", "GCS_BUCKET": "My Bucket"}, "gs://", "GCS_BUCKET.*'My Bucket'"),
        ({"GCS_BUCKET": "results"}, "gs://", "GCS_PROJECT"),
        ({}, "gs://results", "GCS_PROJECT"),
        ({}, "gs://results?gcs_projekt=shop", "'gcs_projekt'.*gcs_project, gcs_ttl"),
        ({}, "gs://results?gcs_project=shop&gcs_ttl=long", "GCS_TTL.*'long'"),
        ({}, "gs://results?gcs_project=shop&gcs_ttl=-1", "GCS_TTL.*'-1'"),
    ],
)
def test_wrong_settings_of_google_are_refused(told: Any, url: str, says: str) -> None:
    with settings.override(**told), pytest.raises(ImproperlyConfigured, match=says):
        GoogleStorageBackend(url)


def test_credentials_that_are_missing_are_told_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(clouds.EMULATOR, raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none"))
    with pytest.raises(ImproperlyConfigured, match="GOOGLE_APPLICATION_CREDENTIALS"):
        GoogleStorageBackend("gs://results?gcs_project=shop")


def test_google_that_is_away_is_told_of(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(clouds.EMULATOR, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setitem(google_storage.PATIENCE, "retry", google_storage.PATIENCE["retry"].with_timeout(0.5))
    store = GoogleStorageBackend(place["RESULT_BACKEND"])
    with pytest.raises(BackendStoreError, match="could not be written"):
        store.store_many([document("a"), document("b")])
    with pytest.raises(BackendGetMetaError, match="could not be read"):
        store.fetch("a")
    with settings.override(RESULT_EXPIRES=1), pytest.raises(BackendStoreError, match="Old results"):
        store.clean_up()
    store.close()
