"""Results as objects in a bucket at Google, as Celery keeps them: `gs://bucket/path?gcs_project=…`.

Keys are Celery's, after the path. An object is replaced only if it is still of the generation that was looked
at. With GCS_TTL each says when its time is over, and a lifecycle rule of the bucket deletes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

try:
    from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError, NotFound, PreconditionFailed
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
    from google.cloud import storage
    from google.cloud.storage.retry import DEFAULT_RETRY
    from requests.exceptions import RequestException
except ImportError as missing:
    raise ImportError("google-cloud-storage is not installed: pip install djqueue[gcs].") from missing

from djqueue.conf import settings
from djqueue.exceptions import ImproperlyConfigured
from djqueue_results.backends.keyvalue.contract import KeyValueError
from djqueue_results.backends.keyvalue.objects import ObjectStore, OfThisProcess

#: seconds for a connection and for an answer, and for how long a request that failed is made again
PATIENCE: dict[str, Any] = {"timeout": (5, 15), "retry": DEFAULT_RETRY.with_timeout(10)}
#: the generation of what is not there
NONE = 0
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_OPTIONS = ("gcs_project", "gcs_ttl", "ttl")


class GoogleStorageBackend(ObjectStore):
    """Keeps documents in a bucket."""

    compresses = True

    def __init__(self, url: str = "", **options: Any) -> None:
        super().__init__(url, **options)
        parts = urlsplit(url)
        told = _told(parts.query)
        self._bucket = _named_bucket(parts.hostname or settings.GCS_BUCKET)
        self._project: str = told.get("gcs_project") or settings.GCS_PROJECT
        if not self._project:
            raise ImproperlyConfigured(
                "Results are to be kept in Google's storage, and neither GCS_PROJECT nor "
                "'gs://bucket?gcs_project=…' names the project."
            )
        base = unquote(parts.path).strip("/") or (settings.GCS_BASE_PATH or "").strip("/")
        self._base = f"{base}/" if base else ""
        self._seconds = _seconds(told.get("gcs_ttl") or told.get("ttl") or settings.GCS_TTL)
        self._client = OfThisProcess(self._open)
        self._client()  # what is wrong with the credentials is said now
        if self._seconds:
            self._check_rules()

    def as_uri(self) -> str:
        """Return where results are."""
        return f"gs://{self._bucket}/{self._base}"

    def clean_up(self) -> int:
        """Delete what was last written RESULT_EXPIRES ago, or nothing if the bucket's rule does that."""
        return 0 if self._seconds else super().clean_up()

    def close(self) -> None:
        """Close idle connections."""
        self._client.close()

    def get(self, key: str) -> tuple[bytes | None, Any]:
        blob = self._blob(key)
        with _own_errors():
            try:
                value = blob.download_as_bytes(**PATIENCE)
            except NotFound as error:
                if "bucket does not exist" in str(error):
                    raise
                return None, NONE
        return value, blob.generation

    def put(self, key: str, value: bytes, tag: Any) -> bool:
        blob = self._blob(key)
        if self._seconds:
            blob.custom_time = datetime.now(UTC) + timedelta(seconds=self._seconds)
        with _own_errors():
            try:
                blob.upload_from_string(value, if_generation_match=tag, **PATIENCE)
                return True
            except PreconditionFailed:
                return False

    def delete(self, keys: Sequence[str]) -> None:
        with ThreadPoolExecutor(self.at_once) as pool:
            for _ in pool.map(self._delete_one, keys):
                pass

    def older(self, prefix: str, moment: datetime) -> Iterator[str]:
        with _own_errors():
            for one in self._client().list_blobs(
                self._bucket,
                prefix=f"{self._base}{prefix}",
                fields="items(name,updated),nextPageToken",
                **PATIENCE,
            ):
                if one.updated < moment:
                    yield one.name.removeprefix(self._base)

    def _delete_one(self, key: str) -> None:
        with _own_errors(), suppress(NotFound):
            self._blob(key).delete(**PATIENCE)

    def _blob(self, key: str) -> Any:
        return self._client().bucket(self._bucket).blob(f"{self._base}{key}")

    def _open(self) -> Any:
        try:
            return storage.Client(project=self._project)
        except DefaultCredentialsError as error:
            raise ImproperlyConfigured(
                "No credentials were found for results in Google's storage: set "
                f"GOOGLE_APPLICATION_CREDENTIALS to a key's file, or log in with gcloud. {error}"
            ) from error

    def _check_rules(self) -> None:
        """Raise if nothing deletes objects whose time is over; who may not ask, or cannot, is let go on."""
        bucket = self._client().bucket(self._bucket)
        with suppress(KeyValueError), _own_errors():
            bucket.reload(**PATIENCE)
            if not any(rule["action"]["type"] == "Delete" for rule in bucket.lifecycle_rules):
                raise ImproperlyConfigured(
                    f"GCS_TTL is {self._seconds:g}, and no lifecycle rule of the bucket {self._bucket!r} "
                    "deletes anything: add one with the action Delete and the condition daysSinceCustomTime, "
                    "or set GCS_TTL to 0 and let celery.backend_cleanup delete old results."
                )


def _told(query: str) -> dict[str, str]:
    told = dict(parse_qsl(query))
    if unknown := sorted({*told} - {*_OPTIONS}):
        raise ImproperlyConfigured(
            f"RESULT_BACKEND is 'gs://…' with the option {unknown[0]!r}, which there is not; known are "
            f"{', '.join(_OPTIONS)}."
        )
    return told


def _named_bucket(name: str | None) -> str:
    if not name:
        raise ImproperlyConfigured(
            "Results are to be kept in Google's storage, and neither GCS_BUCKET nor 'gs://bucket' names a "
            "bucket."
        )
    if not _BUCKET.fullmatch(name):
        raise ImproperlyConfigured(
            f"GCS_BUCKET, or the bucket in 'gs://bucket', is {name!r}, which no bucket can be called: take 3 "
            "or more small letters and digits, with '-', '_' and '.' between them."
        )
    return name


def _seconds(told: Any) -> float:
    try:
        seconds = float(told)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < float("inf"):
        raise ImproperlyConfigured(
            f"GCS_TTL, or gcs_ttl in 'gs://bucket?gcs_ttl=…', is {told!r}: it must be seconds, 0 for none."
        )
    return seconds


@contextmanager
def _own_errors() -> Iterator[None]:
    """Let what the service or the way to it raises be KeyValueError."""
    try:
        yield
    except GoogleAPICallError as error:
        raise KeyValueError(f"{error.code}: {error.message}") from error
    except (GoogleAPIError, GoogleAuthError, RequestException) as error:
        raise KeyValueError(str(error)) from error
