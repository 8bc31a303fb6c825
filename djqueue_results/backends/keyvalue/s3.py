"""Results as objects in a bucket, as Celery's S3 store keeps them: `s3://`, with S3_BUCKET and its like.

Keys are Celery's, after S3_BASE_PATH. An object is replaced only if it is still the one that was looked at
(`If-Match`); a server that does not check that lets the last one win.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from djqueue.conf import settings
from djqueue.exceptions import ImproperlyConfigured
from djqueue_results.backends.keyvalue import aws
from djqueue_results.backends.keyvalue.contract import KeyValueError
from djqueue_results.backends.keyvalue.objects import ObjectStore

#: somebody else wrote, or is writing
_CHANGED = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409"}
_MISSING = {"NoSuchKey", "404"}
#: objects in one request to delete
DELETED_AT_ONCE = 1_000


class S3Backend(ObjectStore):
    """Keeps documents in a bucket."""

    # Nothing is compressed: Celery reads objects here as text.

    def __init__(self, url: str = "", **options: Any) -> None:
        super().__init__(url, **options)
        if url.partition("://")[2].strip("/"):
            raise ImproperlyConfigured(
                "The address of results in S3 is only 's3://'; S3_BUCKET and S3_BASE_PATH say where they are."
            )
        if not settings.S3_BUCKET:
            raise ImproperlyConfigured("Results are to be kept in S3, and S3_BUCKET does not name a bucket.")
        self._bucket: str = settings.S3_BUCKET
        self._base: str = settings.S3_BASE_PATH or ""
        self._client = aws.Client(
            "s3",
            aws_access_key_id=settings.S3_ACCESS_KEY_ID,
            aws_secret_access_key=settings.S3_SECRET_ACCESS_KEY,
            region_name=settings.S3_REGION,
            endpoint_url=settings.S3_ENDPOINT_URL,
        )

    def as_uri(self) -> str:
        """Return where results are."""
        return f"s3://{self._bucket}/{self._base}"

    def named(self, task_id: str) -> str:
        """Return the id as it stands in a key."""
        return aws.named(task_id)

    def close(self) -> None:
        """Close idle connections."""
        self._client.close()

    def get(self, key: str) -> tuple[bytes | None, Any]:
        with aws.own_errors():
            try:
                found = self._client().get_object(Bucket=self._bucket, Key=f"{self._base}{key}")
                return found["Body"].read(), found["ETag"]
            except ClientError as error:
                if aws.code_of(error) in _MISSING:
                    return None, None
                raise

    def put(self, key: str, value: bytes, tag: Any) -> bool:
        condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        with aws.own_errors():
            try:
                self._client().put_object(
                    Bucket=self._bucket, Key=f"{self._base}{key}", Body=value, **condition
                )
                return True
            except ClientError as error:
                if aws.code_of(error) in _CHANGED:
                    return False
                raise

    def delete(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), DELETED_AT_ONCE):
            objects = [{"Key": f"{self._base}{key}"} for key in keys[start : start + DELETED_AT_ONCE]]
            with aws.own_errors():
                said = self._client().delete_objects(
                    Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True}
                )
            for error in said.get("Errors", ()):
                raise KeyValueError(f"{error.get('Code')}: {error.get('Message')} ({error.get('Key')})")

    def older(self, prefix: str, moment: datetime) -> Iterator[str]:
        with aws.own_errors():
            pages = self._client().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=f"{self._base}{prefix}"):
                for one in page.get("Contents", ()):
                    if one["LastModified"] < moment:
                        yield one["Key"].removeprefix(self._base)
