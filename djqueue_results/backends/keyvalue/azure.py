"""Results as blobs at Azure, as Celery keeps them: `azureblockblob://`, and the account's connection string.

Keys are Celery's, after AZUREBLOCKBLOB_BASE_PATH, in a container that is made when it is missing. A blob is
replaced only if it is still the one that was looked at (`If-Match`). Neither keys nor signatures are shown.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import Any

try:
    from azure.core import MatchConditions
    from azure.core.exceptions import AzureError, HttpResponseError
    from azure.storage.blob import BlobServiceClient, ContainerClient, ExponentialRetry
except ImportError as missing:
    raise ImportError(
        "azure-storage-blob is not installed: pip install djqueue[azureblockblob]."
    ) from missing

from djqueue.conf import settings
from djqueue.exceptions import ImproperlyConfigured
from djqueue.messaging.urls import masked
from djqueue_results.backends.keyvalue.contract import KeyValueError, TooLarge
from djqueue_results.backends.keyvalue.objects import ObjectStore, OfThisProcess

#: somebody else wrote
_CHANGED = {"ConditionNotMet", "BlobAlreadyExists"}
_FORBIDDEN = 403
_TOO_LARGE = 413
#: seconds by which a pause between attempts may be longer or shorter
JITTER = 1
_CONTAINER = re.compile(r"\$root|(?=.{3,63}\Z)[a-z0-9]+(-[a-z0-9]+)*")

_KEY = re.compile(r"(?:^|;)AccountKey=([^;]*)", re.IGNORECASE)
_SIGNATURE = re.compile(r"SharedAccessSignature=.|[?&]sig=.|UseDevelopmentStorage=true", re.IGNORECASE)


class AzureBlockBlobBackend(ObjectStore):
    """Keeps documents in a container."""

    # Nothing is compressed: Celery reads blobs here as text.

    def __init__(self, url: str = "", **options: Any) -> None:
        super().__init__(url, **options)
        self._connection_string = url.partition("://")[2]
        if not self._connection_string:
            raise ImproperlyConfigured(
                "RESULT_BACKEND is 'azureblockblob://' alone: the connection string of the storage account "
                "has to follow, as Azure shows it under 'Access keys'."
            )
        self._container: str = settings.AZUREBLOCKBLOB_CONTAINER_NAME
        if not _CONTAINER.fullmatch(self._container):
            raise ImproperlyConfigured(
                f"AZUREBLOCKBLOB_CONTAINER_NAME is {self._container!r}, which no container can be called: "
                "take 3 to 63 small letters and digits, with single hyphens between them."
            )
        self._base: str = settings.AZUREBLOCKBLOB_BASE_PATH or ""
        self._client = OfThisProcess(self._service)
        self._is_prepared = False
        try:
            _check_key(self._connection_string)
            host = self._client().primary_hostname
        except ValueError:  # what it says may hold the key
            raise ImproperlyConfigured(
                "RESULT_BACKEND is 'azureblockblob://…' with what is no connection string that holds a "
                "key or a signature: copy it from 'Access keys' of the storage account. Credentials other "
                "than in it are not taken."
            ) from None
        self._shown = f"azureblockblob://{host}/{self._container}/{self._base}"

    def as_uri(self) -> str:
        """Return where results are, without the key."""
        return self._shown

    def close(self) -> None:
        """Close idle connections."""
        self._client.close()

    def get(self, key: str) -> tuple[bytes | None, Any]:
        with self._own_errors():
            try:
                found = self._blobs().download_blob(f"{self._base}{key}")
                return found.readall(), found.properties.etag
            except HttpResponseError as error:
                if _code_of(error) == "BlobNotFound":
                    return None, None
                raise

    def put(self, key: str, value: bytes, tag: Any) -> bool:
        condition = {"etag": tag, "match_condition": MatchConditions.IfNotModified} if tag else {}
        with self._own_errors():
            try:
                self._blobs().upload_blob(f"{self._base}{key}", value, overwrite=bool(tag), **condition)
                return True
            except HttpResponseError as error:
                if _code_of(error) in _CHANGED:
                    return False
                raise

    def delete(self, keys: Sequence[str]) -> None:
        with ThreadPoolExecutor(self.at_once) as pool:
            for _ in pool.map(self._delete_one, keys):
                pass

    def older(self, prefix: str, moment: datetime) -> Iterator[str]:
        with self._own_errors():
            for one in self._blobs().list_blobs(name_starts_with=f"{self._base}{prefix}"):
                if one.last_modified < moment:
                    yield one.name.removeprefix(self._base)

    def _delete_one(self, key: str) -> None:
        with self._own_errors():
            try:
                self._blobs().delete_blob(f"{self._base}{key}")
            except HttpResponseError as error:
                if _code_of(error) != "BlobNotFound":
                    raise

    def _blobs(self) -> ContainerClient:
        """Return the container, which is made if need be."""
        blobs: ContainerClient = self._client().get_container_client(self._container)
        if not self._is_prepared:
            try:
                blobs.create_container()
            except HttpResponseError as error:
                # Who may not make containers may use one that is there: a missing one is told of then.
                if _code_of(error) != "ContainerAlreadyExists" and error.status_code != _FORBIDDEN:
                    raise
            self._is_prepared = True
        return blobs

    @contextmanager
    def _own_errors(self) -> Iterator[None]:
        """Let what the service or the way to it raises be KeyValueError, or TooLarge.

        What it is raised from is dropped: it may name an address with a signature in it.
        """
        try:
            yield
        except HttpResponseError as error:
            code = _code_of(error) or str(error.status_code)
            if code == "ContainerNotFound":  # somebody deleted it: the next request makes it again
                self._is_prepared = False
            said = masked(f"{code}: {str(error.message).partition(chr(10))[0]}")
            raise (TooLarge if error.status_code == _TOO_LARGE else KeyValueError)(said) from None
        except AzureError as error:
            raise KeyValueError(masked(str(error.message))) from None

    def _service(self) -> BlobServiceClient:
        return BlobServiceClient.from_connection_string(
            self._connection_string,
            connection_timeout=settings.AZUREBLOCKBLOB_CONNECTION_TIMEOUT,
            read_timeout=settings.AZUREBLOCKBLOB_READ_TIMEOUT,
            retry_policy=ExponentialRetry(
                initial_backoff=settings.AZUREBLOCKBLOB_RETRY_INITIAL_BACKOFF_SEC,
                increment_base=settings.AZUREBLOCKBLOB_RETRY_INCREMENT_BASE,
                retry_total=settings.AZUREBLOCKBLOB_RETRY_MAX_ATTEMPTS,
                random_jitter_range=JITTER,
            ),
        )


def _check_key(connection_string: str) -> None:
    """Raise ValueError if requests could not be signed, of which Azure's client says nothing until then."""
    key = _KEY.search(connection_string)
    if not (b64decode(key[1]) if key else _SIGNATURE.search(connection_string)):
        raise ValueError("no key")


def _code_of(error: HttpResponseError) -> str:
    """Return what the service calls the error."""
    code = getattr(error, "error_code", None) or ""
    return str(getattr(code, "value", code))
