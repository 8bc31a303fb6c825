"""Celery's store in MongoDB and ours on the same collections: what either writes is what the other reads.

None of this was run against a real server: mongomock is in its place, for both stores alike.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from celery import Celery
from celery.app.task import Context
from kombu.serialization import registry

from djqueue import states
from djqueue.conf import settings
from djqueue.result.documents import Document, encode_exception, encode_value, fence
from djqueue_results.backends.mongodb.store import MongoBackend
from tests.support import mongo
from tests.support.results import document

URL = "mongodb://localhost/results"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> mongo.StandIn:
    return mongo.stand_in(monkeypatch)


@pytest.fixture
def store(server: mongo.StandIn) -> Iterator[MongoBackend]:
    with closing(MongoBackend(URL)) as made:
        yield made


@pytest.fixture
def raw(server: mongo.StandIn) -> Any:
    """Return the database beside the stores."""
    return server(host="localhost")["results"]


def stock_with(**changes: Any) -> Celery:
    made = Celery("stock", backend=URL, set_as_current=False, fixups=[])
    made.conf.update({"result_extended": True, "accept_content": ["json", "pickle", "yaml"], **changes})
    return made


@pytest.fixture
def stock(server: mongo.StandIn) -> Iterator[Celery]:
    made = stock_with()
    yield made
    made.close()


def request(**changes: Any) -> Context:
    """Return what a stock worker knows of a task that it runs."""
    told: dict[str, Any] = {
        "task": "shop.tasks.add",
        "args": [1, "two"],
        "kwargs": {"three": 3},
        "hostname": "celery@host",
        "retries": 2,
        "delivery_info": {"routing_key": "default"},
        "group": "g",
        "parent_id": "p",
        "stamped_headers": ["customer"],
        "stamps": {"customer": ["c-7"]},
        "_children": [],
    }
    return Context({**told, **changes})


def ours_like(**changes: Any) -> Document:
    """Return the document that one of our workers makes of the same task."""
    return document(
        "ours",
        retries=2,
        name="shop.tasks.add",
        args="(1, 'two')",
        kwargs="{'three': 3}",
        worker="celery@host",
        queue="default",
        group_id="g",
        parent_id="p",
        stamps='{"customer": ["c-7"]}',
        children=[],
        **changes,
    )


def comparable(row: dict[str, Any]) -> dict[str, Any]:
    """Return a document without what is never the same: its id, the time, and our own field."""
    assert isinstance(row["date_done"], datetime | None)
    kept = {name: value for name, value in row.items() if name not in ("_id", "djq")}
    return kept | {"date_done": type(row["date_done"])}


# With Celery: the same documents


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_success_is_written_field_by_field_as_celery_writes_it(
    store: MongoBackend, raw: Any, serializer: str, compression: str | None
) -> None:
    value = {"a": ["æ", 1, None], "long": "x" * 100}
    with (
        closing(stock_with(result_serializer=serializer, result_compression=compression)) as stock,
        settings.override(
            RESULT_SERIALIZER=serializer,
            RESULT_COMPRESSION=compression,
            RESULT_ACCEPT_CONTENT=[serializer],
        ),
    ):
        stock.backend.store_result("theirs", value, "SUCCESS", request=request())
        store.store_many([ours_like(**encode_value(value)._asdict())])
        ours, theirs = (raw.celery_taskmeta.find_one({"_id": one}) for one in ("ours", "theirs"))
        assert comparable(ours) == comparable(theirs)
        assert type(ours["result"]) is type(theirs["result"])
        assert stock.AsyncResult("ours").get(timeout=1) == value
        found = store.fetch("theirs")
        assert found is not None
        assert found.value() == value


@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_a_failure_is_written_field_by_field_as_celery_writes_it(
    store: MongoBackend, raw: Any, serializer: str
) -> None:
    error, told = KeyError("k"), "Traceback (most recent call last): …\nKeyError: 'k'\n"
    with (
        closing(stock_with(result_serializer=serializer)) as stock,
        settings.override(RESULT_SERIALIZER=serializer, RESULT_ACCEPT_CONTENT=[serializer]),
    ):
        stock.backend.store_result("theirs", error, "FAILURE", traceback=told, request=request())
        failed = ours_like(status=states.FAILURE, **encode_exception(error)._asdict())
        failed.traceback = told
        store.store_many([failed])
        ours, theirs = (raw.celery_taskmeta.find_one({"_id": one}) for one in ("ours", "theirs"))
        if serializer == "json":
            assert comparable(ours) == comparable(theirs)
        result = stock.AsyncResult("ours")
        assert (repr(result.result), result.traceback, result.name) == (
            "KeyError('k')",
            told,
            "shop.tasks.add",
        )
        found = store.fetch("theirs")
        assert found is not None
        assert (repr(found.value()), found.traceback, found.status) == ("KeyError('k')", told, states.FAILURE)


def test_a_state_that_is_no_end_is_written_as_celery_writes_it(
    store: MongoBackend, stock: Celery, raw: Any
) -> None:
    stock.backend.store_result("theirs", {"done": 3}, "PROGRESS", request=request())
    store.store_many([ours_like(status="PROGRESS", value={"done": 3})])
    ours, theirs = (raw.celery_taskmeta.find_one({"_id": one}) for one in ("ours", "theirs"))
    assert comparable(ours) == comparable(theirs)
    assert ours["date_done"] is None
    assert stock.AsyncResult("ours").info == {"done": 3}


def test_without_result_extended_celerys_fields_are_those_of_celery(store: MongoBackend, raw: Any) -> None:
    with closing(stock_with(result_extended=False)) as stock, settings.override(RESULT_EXTENDED=False):
        stock.backend.store_result("theirs", 1, "SUCCESS", request=request())
        store.store_many([ours_like(value=1)])
        ours, theirs = (raw.celery_taskmeta.find_one({"_id": one}) for one in ("ours", "theirs"))
        assert comparable(ours) == comparable(theirs)
        assert "name" not in ours
        assert set(ours["djq"]) == {"attempt", "fence", "stored", "date_done"}


def test_everything_that_celery_writes_is_read(store: MongoBackend, stock: Celery) -> None:
    child = stock.AsyncResult("child")
    stock.backend.store_result("theirs", [1], "SUCCESS", request=request(_children=[child]))
    found = store.fetch("theirs")
    assert found is not None
    assert abs((found.date_done or 0) - time.time()) < 60
    found.date_done = None
    assert found == Document(
        "theirs",
        states.SUCCESS,
        "[1]",
        children=[[["child", None], None]],
        attempt=2 << 16,
        retries=2,
        name="shop.tasks.add",
        args="(1, 'two')",
        kwargs="{'three': 3}",
        worker="celery@host",
        queue="default",
        group_id="g",
        parent_id="p",
        stamps='{"customer": ["c-7"]}',
    )


def test_everything_that_we_write_is_read_by_celery(store: MongoBackend, stock: Celery) -> None:
    written = ours_like(value={"a": 1})
    written.children = [[["child", None], None]]
    store.store_many([written])
    found = stock.AsyncResult("ours")
    assert found.get(timeout=1) == {"a": 1}
    assert (found.name, found.args, found.kwargs) == ("shop.tasks.add", [1, "two"], {"three": 3})
    assert (found.worker, found.retries, found.queue) == ("celery@host", 2, "default")
    assert [one.id for one in found.children] == ["child"]
    # As by Celery: the client is not told to say that moments are in UTC.
    assert found.date_done == datetime.fromtimestamp(1_800_000_000.25, UTC).replace(tzinfo=None)


def test_groups_are_kept_as_celery_keeps_them(store: MongoBackend, stock: Celery, raw: Any) -> None:
    members = [["group", ["parent", None]], [[["a", None], None], [["b", None], None]]]
    store.save_group("group", members)
    stock.GroupResult("theirs", [stock.AsyncResult("a"), stock.AsyncResult("b")]).save()
    ours, theirs = (raw.celery_groupmeta.find_one({"_id": one}) for one in ("group", "theirs"))
    assert comparable(ours) == comparable(theirs)
    assert [one.id for one in stock.GroupResult.restore("group")] == ["a", "b"]
    assert store.restore_group("group") == members
    assert store.restore_group("theirs") == [["theirs", None], [[["a", None], None], [["b", None], None]]]
    store.delete_group("theirs")
    assert store.restore_group("theirs") is None


def test_groups_are_compressed_as_results_are(store: MongoBackend, raw: Any) -> None:
    members = [["g", None], [[["a" * 200, None], None]]]
    with (
        closing(stock_with(result_compression="zlib")) as stock,
        settings.override(RESULT_COMPRESSION="zlib"),
    ):
        store.save_group("g", members)
        assert isinstance(raw.celery_groupmeta.find_one({"_id": "g"})["result"], bytes)
        assert [one.id for one in stock.GroupResult.restore("g")] == ["a" * 200]
    raw.celery_groupmeta.update_one({"_id": "g"}, {"$unset": {"djq": 1}})
    assert store.restore_group("g") == members


def test_a_success_by_either_is_final_for_the_other(store: MongoBackend, stock: Celery) -> None:
    stock.backend.store_result("theirs", 1, "SUCCESS")
    store.store_many([document("theirs", states.FAILURE, starts=3), document("ours", value=1)])
    stock.backend.store_result("ours", ValueError("late"), "FAILURE")
    assert [found.status for found in store.fetch_many(["theirs", "ours"]).values()] == ["SUCCESS"] * 2


@pytest.mark.parametrize("theirs", ["STARTED", "FAILURE", "REVOKED", "SUCCESS"])
@pytest.mark.parametrize("retries", [None, 0, 1, 2])
@pytest.mark.parametrize(
    "newer", [{"retries": 0}, {"retries": 0, "starts": 1}, {"retries": 1}, {"retries": 2}]
)
def test_what_celery_wrote_is_replaced_by_the_same_rules(
    store: MongoBackend, raw: Any, theirs: str, retries: int | None, newer: dict[str, int]
) -> None:
    row = {"_id": "a", "status": theirs, "result": "1", "traceback": None, "children": [], "date_done": None}
    raw.celery_taskmeta.insert_one(row if retries is None else row | {"retries": retries})
    kept = store.fetch("a")
    assert kept is not None
    allowed = fence(theirs, kept.attempt, kept.retries) <= document(**newer).attempt
    store.store_many([document("a", states.FAILURE, value="newer", **newer)])
    found = store.fetch("a")
    assert found is not None
    assert (found.result == '"newer"') is allowed


def test_celerys_own_serializer_of_values_is_understood(store: MongoBackend, raw: Any) -> None:
    """Celery keeps values as they are if the serializer is called `bson`, which it must be given."""
    registry.register(
        "bson",
        lambda value: bson.encode({"value": value}),
        lambda body: bson.decode(body)["value"],
        content_type="application/bson",
        content_encoding="binary",
    )
    try:
        with (
            closing(stock_with(result_serializer="bson", accept_content=["bson"])) as stock,
            settings.override(RESULT_SERIALIZER="bson", RESULT_ACCEPT_CONTENT=["bson"]),
        ):
            value = {"a": [1, "two"]}
            stock.backend.store_result("theirs", value, "SUCCESS")
            stock.backend.store_result("failed", KeyError("k"), "FAILURE")
            store.store_many([document("ours", **encode_value(value)._asdict())])
            assert raw.celery_taskmeta.find_one({"_id": "ours"})["result"] == value
            assert stock.AsyncResult("ours").get(timeout=1) == value
            found = store.fetch_many(["theirs", "failed"])
            assert found["theirs"].value() == value
            assert repr(found["failed"].value()) == "KeyError('k')"
            stock.GroupResult("g", [stock.AsyncResult("a")]).save()
            store.save_group("h", [["h", None], [[["a", None], None]]])
            assert store.restore_group("g") == [["g", None], [[["a", None], None]]]
            assert raw.celery_groupmeta.find_one({"_id": "h"})["result"] == ["a"]
    finally:
        registry.unregister("bson")
