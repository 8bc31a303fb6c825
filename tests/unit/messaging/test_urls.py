"""Broker URLs as they may be shown: no password survives, everything else does.

URLs of all kinds go in; what comes out may stand in a log.
"""

from __future__ import annotations

import pytest

from djqueue.messaging.urls import masked, scheme


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://guest:s3cret@host:5672//", "amqp://guest:**@host:5672//"),
        ("redis://:s3cret@host/0", "redis://:**@host/0"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("amqp://u:a:b@host//;amqp://v:c@other//", "amqp://u:**@host//;amqp://v:**@other//"),
        ("sqs://?aws_secret=x&region=eu", "sqs://?aws_secret=**&region=eu"),
        ("redis://host/0?password=s3cret#x", "redis://host/0?password=**#x"),
        ("django://Default", "django://Default"),
        (
            "azureblockblob://AccountName=shop;AccountKey=s3/cr+et==;EndpointSuffix=core.windows.net",
            "azureblockblob://AccountName=shop;AccountKey=**;EndpointSuffix=core.windows.net",
        ),
        (
            "azureblockblob://BlobEndpoint=https://shop;SharedAccessSignature=sv=1&sig=s3cret%3D",
            "azureblockblob://BlobEndpoint=https://shop;SharedAccessSignature=**",
        ),
        ("to /celery?sv=1&sig=s3cret%3D&se=2 timed out", "to /celery?sv=1&sig=**&se=2 timed out"),
        ("memory", "memory"),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_a_name_alone_is_its_own_scheme() -> None:
    assert (scheme("memory"), scheme("redis://host/0")) == ("memory", "redis")
