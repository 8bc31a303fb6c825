"""What the store in Azure's blob storage does beyond the others, asked of Azurite, which is in its place.

Containers and names are looked at with Azure's own client; keys and signatures must not be seen anywhere.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.storage.blob import BlobServiceClient, ContainerSasPermissions, generate_container_sas

from djqueue import states
from djqueue.conf import settings
from djqueue.exceptions import BackendGetMetaError, BackendStoreError, ImproperlyConfigured
from djqueue.result.backends import backend
from djqueue.result.contract import ResultBackend
from djqueue_results.backends.keyvalue.azure import AzureBlockBlobBackend
from tests.contracts.backends import places
from tests.support import clouds
from tests.support.results import document
from tests.support.servers import Server, free_port
from tests.support.waiting import wait_until


@pytest.fixture
def place(azure_server: Server) -> dict[str, Any]:
    """Return the settings that lead to a container that is not there yet."""
    return clouds.azure_settings(azure_server.url)


@pytest.fixture
def store(place: dict[str, Any]) -> Iterator[ResultBackend]:
    with places.opened(place) as made:
        yield made


@pytest.fixture
def stock(place: dict[str, Any]) -> Iterator[Any]:
    with places.stock(place) as made:
        yield made


@pytest.fixture
def raw(azure_server: Server, place: dict[str, Any]) -> Iterator[Any]:
    """Return Azure's client of the container, beside the store's."""
    with BlobServiceClient.from_connection_string(clouds.connection_string(azure_server.url)) as made:
        yield made.get_container_client(place["AZUREBLOCKBLOB_CONTAINER_NAME"])


def test_names_of_blobs_are_celerys_after_the_path(store: ResultBackend, place: Any, raw: Any) -> None:
    store.store_many([document("a", value=1)])
    assert list(raw.list_blob_names()) == ["some/where/celery-task-meta-a"]
    host = raw.primary_hostname.partition("/")[0]
    container = place["AZUREBLOCKBLOB_CONTAINER_NAME"]
    assert store.as_uri() == f"azureblockblob://{host}/shop/{container}/some/where/"


def test_old_blobs_are_cleaned_up_and_no_others(store: ResultBackend, raw: Any) -> None:
    store.store_many([document(f"task-{number}") for number in range(30)])
    store.save_group("group", [["group", None], []])
    raw.upload_blob("some/where/else", b"not ours")
    assert store.clean_up() == 0
    stored_by = time.time()
    with settings.override(RESULT_EXPIRES=0.01):
        wait_until(lambda: time.time() > stored_by + 0.02, 5, "for the results to expire")
        assert store.clean_up() == 30
    with settings.override(RESULT_EXPIRES=None):
        assert store.clean_up() == 0
    assert list(raw.list_blob_names()) == ["some/where/else"]


def test_results_may_stand_at_the_top_of_a_container_celery_made(place: Any, stock: Any, raw: Any) -> None:
    stock.conf.azureblockblob_base_path = ""
    stock.backend.store_result("theirs", 1, "SUCCESS")
    with settings.override(**{**place, "AZUREBLOCKBLOB_BASE_PATH": None}):
        store = backend(place["RESULT_BACKEND"])
        store.store_many([document("ours", value=1)])
        assert sorted(raw.list_blob_names()) == ["celery-task-meta-ours", "celery-task-meta-theirs"]


def test_a_container_that_somebody_deleted_is_made_again(store: ResultBackend, raw: Any) -> None:
    store.store_many([document("a", value=1)])
    raw.delete_container()
    with pytest.raises(BackendStoreError, match="ContainerNotFound") as caught:
        store.store_many([document("a", value=1)])
    assert (caught.value.task_id, caught.value.state) == ("a", states.SUCCESS)
    store.store_many([document("a", value=1)])  # as a worker does that waits for its store
    assert store.fetch("a") is not None


def test_a_signature_for_the_container_alone_is_enough(place: Any, raw: Any, azure_server: Server) -> None:
    raw.create_container()
    signature = generate_container_sas(
        clouds.ACCOUNT,
        place["AZUREBLOCKBLOB_CONTAINER_NAME"],
        account_key=clouds.SECRET,
        permission=ContainerSasPermissions(read=True, write=True, delete=True, list=True, create=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    parts = f"BlobEndpoint={azure_server.url}/{clouds.ACCOUNT};SharedAccessSignature={signature}"
    with settings.override(**place):
        store = backend(f"azureblockblob://{parts}")
        store.store_many([document("a", value=1)])
        assert store.fetch("a") is not None


@pytest.mark.parametrize(
    ("name", "given", "meant"),
    [
        ("AZUREBLOCKBLOB_CONNECTION_TIMEOUT", 7, "connection_timeout"),
        ("AZUREBLOCKBLOB_READ_TIMEOUT", 8, "read_timeout"),
        ("AZUREBLOCKBLOB_RETRY_MAX_ATTEMPTS", 9, "total_retries"),
        ("AZUREBLOCKBLOB_RETRY_INITIAL_BACKOFF_SEC", 10, "initial_backoff"),
        ("AZUREBLOCKBLOB_RETRY_INCREMENT_BASE", 11, "increment_base"),
    ],
)
def test_the_client_is_patient_as_the_settings_say(
    place: Any, monkeypatch: pytest.MonkeyPatch, name: str, given: int, meant: str
) -> None:
    told: dict[str, Any] = {}
    make = BlobServiceClient.from_connection_string

    def noticed(text: str, **options: Any) -> Any:
        told.update(options, **vars(options["retry_policy"]))
        return make(text, **options)

    monkeypatch.setattr(BlobServiceClient, "from_connection_string", noticed)
    with settings.override(**{**place, name: given}):
        AzureBlockBlobBackend(place["RESULT_BACKEND"]).close()
    assert told[meant] == given


def test_a_request_that_failed_is_made_again_as_often_as_said(place: Any) -> None:
    dead = f"azureblockblob://{clouds.connection_string(f'http://127.0.0.1:{free_port()}')}"
    patience = {
        "AZUREBLOCKBLOB_RETRY_MAX_ATTEMPTS": 1,
        "AZUREBLOCKBLOB_RETRY_INITIAL_BACKOFF_SEC": 2,
        "AZUREBLOCKBLOB_RETRY_INCREMENT_BASE": 0,
    }
    with settings.override(**{**place, **patience}):
        began = time.monotonic()
        with pytest.raises(BackendGetMetaError, match="could not be read"):
            backend(dead).fetch("a")
    assert time.monotonic() - began > 0.9


@pytest.mark.parametrize(
    ("changes", "url", "says"),
    [
        ({}, "azureblockblob://", "RESULT_BACKEND.*connection string"),
        ({}, "azureblockblob://AccountKey=not-for-logs", "RESULT_BACKEND.*no connection string"),
        ({}, "azureblockblob://AccountName=shop", "a key or a signature"),
        ({}, "azureblockblob://AccountName=shop;AccountKey=", "a key or a signature"),
        ({}, "azureblockblob://AccountName=shop;AccountKey=not-for-logs", "a key or a signature"),
        ({}, "azureblockblob://DefaultAzureCredential@https://shop", "Credentials other than in it"),
        *(
            ({"AZUREBLOCKBLOB_CONTAINER_NAME": name}, None, "AZUREBLOCKBLOB_CONTAINER_NAME is .*hyphens")
            for name in ("ab", "Results", "two--hyphens", "-first", "last-", "a" * 64, "line\n")
        ),
    ],
)
def test_wrong_settings_of_azure_are_refused(place: Any, changes: Any, url: str | None, says: str) -> None:
    with settings.override(**{**place, **changes}), pytest.raises(ImproperlyConfigured, match=says) as caught:
        AzureBlockBlobBackend(url or place["RESULT_BACKEND"])
    assert "not-for-logs" not in "".join(traceback.format_exception(caught.value))


# Trouble


@pytest.mark.parametrize("secret", ["AccountKey", "SharedAccessSignature"])
def test_a_service_that_is_away_is_told_of_without_secrets(
    place: Any, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    url = f"azureblockblob://{clouds.connection_string(dead)}"
    hidden = clouds.SECRET
    if secret == "SharedAccessSignature":
        hidden = "c2VjcmV0"
        url = f"azureblockblob://BlobEndpoint={dead}/shop;SharedAccessSignature=sv=2025-01-05&sig={hidden}"
    caplog.set_level("DEBUG")
    with settings.override(**place):
        store = AzureBlockBlobBackend(url)
        with pytest.raises(BackendStoreError, match="could not be written") as caught:
            store.store_many([document("a"), document("b")])
        with pytest.raises(BackendGetMetaError, match="could not be read"):
            store.fetch("a")
        with settings.override(RESULT_EXPIRES=1), pytest.raises(BackendStoreError, match="Old results"):
            store.clean_up()
        store.close()
    told = "".join(traceback.format_exception(caught.value)) + store.as_uri() + caplog.text
    assert hidden not in told


def test_a_wrong_key_is_told_of(place: Any, azure_server: Server) -> None:
    url = clouds.connection_string(azure_server.url).replace(clouds.SECRET, "d3Jvbmcga2V5")
    with (
        settings.override(**place),
        pytest.raises(BackendStoreError, match="Auth") as told,
    ):
        backend(f"azureblockblob://{url}").store_many([document("a", value=1)])
    assert "d3Jvbmcga2V5" not in "".join(traceback.format_exception(told.value))
