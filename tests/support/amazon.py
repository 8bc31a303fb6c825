"""Buckets and tables in what looks like Amazon's services, each test its own.

The address of the server (`amazon_server`) comes in; settings and addresses of result stores leave.
"""

from __future__ import annotations

from typing import Any

import boto3

from djqueue.core.names import new_id

REGION = "us-east-1"
KEY, SECRET = "key", "not-for-logs"


def client(service: str, url: str) -> Any:
    """Return a client beside the store's."""
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
    )


def s3_settings(url: str) -> dict[str, Any]:
    """Make an empty bucket and return the settings that lead there."""
    bucket = f"results-{new_id()}"
    made = client("s3", url)
    made.create_bucket(Bucket=bucket)
    made.close()
    return {
        "S3_BUCKET": bucket,
        "S3_BASE_PATH": "some/where/",
        "S3_ENDPOINT_URL": url,
        "S3_ACCESS_KEY_ID": KEY,
        "S3_SECRET_ACCESS_KEY": SECRET,
        "S3_REGION": REGION,
    }


def table_address(url: str, query: str = "") -> str:
    """Return the address of a table that is not there yet."""
    return f"dynamodb://{KEY}:{SECRET}@{url.removeprefix('http://')}/results-{new_id()}{query}"
