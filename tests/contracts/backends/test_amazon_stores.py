"""What the stores in S3 and DynamoDB do beyond the contract, asked of moto's server, which is in their place.

A stock Celery reads what we store there, and the other way round.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from celery import Celery

from djqueue import states
from djqueue.conf import settings
from djqueue.core.names import new_id
from djqueue.exceptions import BackendGetMetaError, BackendStoreError, ImproperlyConfigured
from djqueue.result.contract import ResultBackend
from djqueue_results.backends.keyvalue.dynamodb import DynamoBackend
from djqueue_results.backends.keyvalue.s3 import S3Backend
from tests.support import amazon
from tests.support.results import document
from tests.support.servers import Server, free_port
from tests.support.waiting import wait_until

BOTH = pytest.mark.parametrize("kind", ["s3", "dynamodb"])


@pytest.fixture
def kind() -> str:
    """Return the service; tests for both have it as a parameter."""
    return "s3"


@pytest.fixture
def place(kind: str, amazon_server: Server) -> dict[str, Any]:
    """Return the settings that lead to an empty bucket, or to a table that is not there yet."""
    if kind == "s3":
        return {"RESULT_BACKEND": "s3://", **amazon.s3_settings(amazon_server.url)}
    return {"RESULT_BACKEND": amazon.table_address(amazon_server.url)}


@pytest.fixture
def store(kind: str, place: dict[str, Any]) -> Iterator[ResultBackend]:
    with settings.override(**place):
        made: ResultBackend = (S3Backend if kind == "s3" else DynamoBackend)(place["RESULT_BACKEND"])
        yield made
        made.close()


@pytest.fixture
def stock(place: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    made = Celery("stock", backend=place["RESULT_BACKEND"], set_as_current=False, fixups=[])
    made.conf.update({name.lower(): value for name, value in place.items()})
    yield made
    made.close()


@pytest.fixture
def raw(kind: str, amazon_server: Server) -> Iterator[Any]:
    """Return a client beside the store's."""
    with closing(amazon.client(kind, amazon_server.url)) as made:
        yield made


# With Celery


@BOTH
def test_celery_reads_what_we_store_and_we_what_celery_stores(store: ResultBackend, stock: Any) -> None:
    store.store_many([document("ours", value={"a": ["æ", 1]}, children=[[["child", None], None]])])
    theirs = stock.AsyncResult("ours")
    assert theirs.get(timeout=5, interval=0.01) == {"a": ["æ", 1]}
    assert [child.id for child in theirs.children] == ["child"]
    stock.backend.store_result("theirs", [1, 2], "SUCCESS")
    stock.backend.mark_as_failure("failed", KeyError("k"), traceback="Traceback…")
    found = store.fetch_many(["theirs", "failed"])
    assert found["theirs"].value() == [1, 2]
    assert repr(found["failed"].value()) == "KeyError('k')"


@BOTH
def test_celery_reads_what_we_store_whatever_is_said_of_compression(store: ResultBackend, stock: Any) -> None:
    with settings.override(RESULT_COMPRESSION="zlib"):
        store.store_many([document("ours", value="æ" * 1000)])
        store.save_group("g", [["g", None], []])
    assert stock.AsyncResult("ours").get(timeout=5, interval=0.01) == "æ" * 1000
    assert store.restore_group("g") == [["g", None], []]


@BOTH
def test_a_success_by_either_is_final_for_the_other(store: ResultBackend, stock: Any) -> None:
    stock.backend.store_result("theirs", 1, "SUCCESS")
    store.store_many([document("theirs", states.FAILURE, starts=3), document("ours", value=1)])
    stock.backend.store_result("ours", ValueError("late"), "FAILURE")
    assert [found.status for found in store.fetch_many(["theirs", "ours"]).values()] == ["SUCCESS"] * 2


@BOTH
def test_groups_are_kept_as_celery_keeps_them(store: ResultBackend, stock: Any) -> None:
    members = [["group", None], [[["a", None], None], [["b", None], None]]]
    store.save_group("group", members)
    assert [one.id for one in stock.GroupResult.restore("group")] == ["a", "b"]
    stock.GroupResult("theirs", [stock.AsyncResult("c")]).save()
    assert store.restore_group("theirs") == [["theirs", None], [[["c", None], None]]]
    store.delete_group("theirs")
    assert store.restore_group("theirs") is None


# Writers at the same time


@BOTH
def test_what_was_written_since_one_looked_is_looked_at(store: ResultBackend) -> None:
    """Somebody writes between the look and the write of another: the latter looks again."""
    assert isinstance(store, S3Backend | DynamoBackend)
    seen: list[bytes | None] = []

    def decide(kept: bytes | None) -> bytes | None:
        seen.append(kept)
        if len(seen) < 3:
            store.change("key", lambda _: f"other {len(seen)}".encode(), 0)
        return b"mine"

    store.change("key", decide, 0)
    assert seen == [None, b"other 1", b"other 2"]
    assert store.read(["key"]) == {"key": b"mine"}


@BOTH
def test_of_many_writers_the_newest_attempt_is_left(store: ResultBackend) -> None:
    def write(number: int) -> None:
        store.store_many([document("a", states.FAILURE, retries=number, value=number)])

    threads = [threading.Thread(target=write, args=[number]) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = store.fetch("a")
    assert kept is not None
    assert kept.retries == 11


@BOTH
def test_a_forked_process_makes_connections_of_its_own(store: ResultBackend) -> None:
    store.store_many([document("a", value=1)])
    child = os.fork()
    if not child:
        status = 1
        try:
            store.store_many([document("b", value=2)])
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert list(store.fetch_many(["a", "b"])) == ["a", "b"]


# S3


def test_keys_in_a_bucket_are_celerys_after_the_path(store: ResultBackend, place: Any, raw: Any) -> None:
    store.store_many([document("a", value=1)])
    (only,) = raw.list_objects_v2(Bucket=place["S3_BUCKET"])["Contents"]
    assert only["Key"] == "some/where/celery-task-meta-a"
    assert store.as_uri() == f"s3://{place['S3_BUCKET']}/some/where/"


def test_more_objects_than_one_request_takes_are_cleaned_up(
    store: ResultBackend, place: Any, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djqueue_results.backends.keyvalue.s3.DELETED_AT_ONCE", 7)
    store.store_many([document(f"task-{number}") for number in range(30)])
    store.save_group("group", [["group", None], []])
    raw.put_object(Bucket=place["S3_BUCKET"], Key="some/where/else", Body=b"not ours")
    stored_by = time.time()
    with settings.override(RESULT_EXPIRES=0.01):
        wait_until(lambda: time.time() > stored_by + 0.02, 5, "for the results to expire")
        assert store.clean_up() == 30
    assert [one["Key"] for one in raw.list_objects_v2(Bucket=place["S3_BUCKET"])["Contents"]] == [
        "some/where/else"
    ]


@pytest.mark.parametrize(
    ("changes", "url", "says"),
    [
        ({"S3_BUCKET": None}, "s3://", "does not name a bucket"),
        ({}, "s3://some-bucket/path", "only 's3://'"),
        ({"S3_SECRET_ACCESS_KEY": None}, "s3://", "key without a secret"),
        ({"S3_ENDPOINT_URL": "nowhere"}, "s3://", "nowhere"),
    ],
)
def test_wrong_settings_of_s3_are_refused(place: Any, changes: Any, url: str, says: str) -> None:
    with settings.override(**{**place, **changes}), pytest.raises(ImproperlyConfigured, match=says):
        S3Backend(url)


def test_a_bucket_that_is_missing_is_told_of(place: Any) -> None:
    with settings.override(**{**place, "S3_BUCKET": "there-is-none"}):
        store = S3Backend("s3://")
        with pytest.raises(BackendStoreError, match="NoSuchBucket") as caught:
            store.store_many([document("a", value=1)])
        assert (caught.value.task_id, caught.value.state) == ("a", states.SUCCESS)
        store.close()


# DynamoDB


@pytest.mark.parametrize("kind", ["dynamodb"])
def test_the_table_is_made_as_celery_makes_it(amazon_server: Server, raw: Any) -> None:
    url = amazon.table_address(amazon_server.url, "?read=3&write=2")
    table = url.rpartition("/")[2].partition("?")[0]
    store = DynamoBackend(url)
    assert table not in raw.list_tables()["TableNames"]
    assert store.fetch("a") is None
    made = raw.describe_table(TableName=table)["Table"]
    assert made["KeySchema"] == [{"AttributeName": "id", "KeyType": "HASH"}]
    provisioned = made["ProvisionedThroughput"]
    assert (provisioned["ReadCapacityUnits"], provisioned["WriteCapacityUnits"]) == (3, 2)
    lives = raw.describe_time_to_live(TableName=table)["TimeToLiveDescription"]["TimeToLiveStatus"]
    assert lives == "DISABLED"
    store.close()


@pytest.mark.parametrize("kind", ["dynamodb"])
def test_items_live_as_long_as_the_address_says(amazon_server: Server, raw: Any) -> None:
    url = amazon.table_address(amazon_server.url)
    table = url.rpartition("/")[2]

    def status() -> Any:
        return raw.describe_time_to_live(TableName=table)["TimeToLiveDescription"]["TimeToLiveStatus"]

    with closing(DynamoBackend(f"{url}?ttl_seconds=3600")) as store:
        store.store_many([document("a", value=1)])
        item = raw.get_item(TableName=table, Key={"id": {"S": "b'celery-task-meta-a'"}})["Item"]
        assert 3_000 < int(item["ttl"]["N"]) - time.time() < 3_601
        assert status() == "ENABLED"
    with closing(DynamoBackend(f"{url}?ttl_seconds=0")) as store:
        store.store_many([document("b", value=1)])
        wait_until(lambda: store.fetch("b") is None, 5, "for its time to be over")
        store.store_many([document("b", states.STARTED)])  # what is over stands in nobody's way
    with closing(DynamoBackend(f"{url}?ttl_seconds=-1")) as store:
        store.store_many([document("c", value=1)])
        assert status() == "DISABLED"
        assert list(store.fetch_many(["a", "b", "c"])) in (["a", "c"], ["c", "a"])


@pytest.mark.parametrize("kind", ["dynamodb"])
def test_more_items_than_one_request_takes_are_read(store: ResultBackend) -> None:
    store.store_many([document(f"task-{number}", value=number) for number in range(150)])
    assert len(store.fetch_many([f"task-{number}" for number in range(150)])) == 150


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("dynamodb://key@us-east-1/table", "key without a secret"),
        ("dynamodb://key:secret@us-east-1/table?ttl=3", "'ttl'.*read, write, ttl_seconds"),
        ("dynamodb://key:secret@us-east-1/table?read=much", "no whole number"),
    ],
)
def test_wrong_addresses_of_dynamodb_are_refused(url: str, says: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=says):
        DynamoBackend(url)


def test_a_region_or_another_endpoint_may_be_named(amazon_server: Server) -> None:
    with settings.override(DYNAMODB_ENDPOINT_URL=amazon_server.url):
        store = DynamoBackend(f"dynamodb://key:sec%2Fret@eu-north-1/results-{new_id()}")
    store.store_many([document("a", value=1)])
    assert store.fetch("a") is not None
    store.close()


# Trouble


def test_services_that_are_away_are_told_of_without_secrets() -> None:
    store = DynamoBackend(f"dynamodb://key:not-for-logs@127.0.0.1:{free_port()}/results")
    assert store.as_uri().startswith("dynamodb://key:**@127.0.0.1")
    with pytest.raises(BackendStoreError, match="could not be written") as caught:
        store.store_many([document("a"), document("b")])
    assert "not-for-logs" not in str(caught.value)
    with pytest.raises(BackendGetMetaError, match="could not be read"):
        store.fetch("a")
    store.close()
