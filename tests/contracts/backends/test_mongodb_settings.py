"""The address of the store in MongoDB and its settings: each option, and what is refused.

No server is needed: PyMongo's own client tells what it was told, and mongomock where documents went.
"""

from __future__ import annotations

import re
from contextlib import closing
from typing import Any

import pymongo
import pytest
from django.core.exceptions import ImproperlyConfigured as DjangoImproperlyConfigured

from djqueue.conf import settings
from djqueue.exceptions import ImproperlyConfigured
from djqueue.result.backends import backend
from djqueue_results.backends.mongodb.places import place_of
from djqueue_results.backends.mongodb.store import MongoBackend
from tests.support import mongo
from tests.support.results import document

URL = "mongodb://localhost/results"
PASSWORD = "not-for-logs"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> mongo.StandIn:
    return mongo.stand_in(monkeypatch)


def arguments(url: str = "mongodb://", **told: Any) -> dict[str, Any]:
    """Return what the client is told with these settings."""
    with settings.override(MONGODB_BACKEND_SETTINGS=told):
        return dict(place_of(url).arguments)


def real(url: str, **told: Any) -> Any:
    """Return PyMongo's own client as the store makes it, which connects to nobody yet."""
    return pymongo.MongoClient(**arguments(url, **told))


# The address and the settings


def test_with_the_bare_address_everything_is_celerys_default(server: mongo.StandIn) -> None:
    with closing(MongoBackend("mongodb://")) as store:
        store.store_many([document("a")])
        store.save_group("g", [["g", None], []])
        database = server(host="localhost")["celery"]
        assert sorted(database.list_collection_names()) == ["celery_groupmeta", "celery_taskmeta"]
        assert store.as_uri() == "mongodb://localhost/celery"
    assert arguments()["maxPoolSize"] == 10


def test_database_and_collections_may_be_named(server: mongo.StandIn) -> None:
    names = {"taskmeta_collection": "tasks", "groupmeta_collection": "groups"}
    for url, told, database in [
        ("mongodb://h/from_url", {}, "from_url"),
        ("mongodb://h/from_url", {"database": "from_settings"}, "from_settings"),
    ]:
        with (
            settings.override(MONGODB_BACKEND_SETTINGS={**names, **told}),
            closing(MongoBackend(url)) as store,
        ):
            store.store_many([document("a")])
            store.save_group("g", [["g", None], []])
        assert sorted(server(host="h")[database].list_collection_names()) == ["groups", "tasks"]


def test_user_and_password_come_from_the_settings_or_the_address() -> None:
    escaped = arguments("mongodb://us%40er:p%2Fw@h/db")
    assert (escaped["username"], escaped["password"]) == ("us@er", "p/w")
    told = arguments("mongodb://other:else@h/db", user="user", password="word")
    assert (told["username"], told["password"]) == ("user", "word")
    assert "else" not in str(told)
    assert "username" not in arguments("mongodb://h/db")


def test_users_are_looked_for_where_celery_looks_for_them() -> None:
    with closing(real(f"mongodb://u:{PASSWORD}@h/results")) as client:
        assert client.options.pool_options._credentials.source == "admin"
    with closing(real(f"mongodb://u:{PASSWORD}@h/results?authSource=users")) as client:
        assert client.options.pool_options._credentials.source == "users"


@pytest.mark.parametrize(
    ("told", "seeds"),
    [
        ({}, {("a", 27017), ("b", 27018)}),
        ({"host": "c"}, {("c", 27017)}),
        ({"port": 1234}, {("localhost", 1234)}),
        ({"host": "c", "port": 1234}, {("c", 1234)}),
        ({"host": "c:5678", "port": 1234}, {("c", 5678)}),
        ({"host": ["c", "d:5678"]}, {("c", 27017), ("d", 5678)}),
        ({"host": "c,d:5678"}, {("c", 27017), ("d", 5678)}),
        ({"host": "c", "options": {"directConnection": False}}, {("c", 27017)}),
    ],
)
def test_host_and_port_of_the_settings_count_more(told: dict[str, Any], seeds: set[Any]) -> None:
    with closing(real("mongodb://a,b:27018/db?replicaSet=r", **told)) as client:
        assert client._topology_settings.seeds == seeds
        assert client.options.replica_set_name == "r"


def test_the_host_may_be_an_address_with_options_of_its_own() -> None:
    with closing(real("mongodb://a/db", host="mongodb://c,d:5678/x?replicaSet=r", port=1234)) as client:
        assert client._topology_settings.seeds == {("c", 1234), ("d", 5678)}
        assert client.options.replica_set_name == "r"
    told = {"host": f"mongodb://u:{PASSWORD}@c,d/x"}
    with settings.override(MONGODB_BACKEND_SETTINGS=told):
        place = place_of("mongodb://a/db")
    assert (place.shown, place.database) == ("mongodb://c,d/db", "db")


def test_options_come_from_the_address_and_from_the_settings() -> None:
    url = "mongodb://h/db?maxPoolSize=3&appName=shop&replicaSet=r&w=majority&readPreference=secondary"
    with closing(real(url)) as client:
        assert client.options.pool_options.max_pool_size == 3
        assert client.options.replica_set_name == "r"
        assert client.write_concern.document == {"w": "majority"}
        assert client.options.server_selection_timeout == 5
        assert client.options.pool_options.connect_timeout == 5
    told = {"max_pool_size": 4, "options": {"appName": "site"}, "retryWrites": False}
    with closing(real(url, **told)) as client:
        assert client.options.pool_options.max_pool_size == 4
        assert client.options.pool_options.appname == "site"
        assert not client.options.retry_writes
    own = {"options": {"serverselectiontimeoutms": 700, "connectTimeoutMS": 800}}
    with closing(real("mongodb://", **own)) as client:
        assert client.options.server_selection_timeout == 0.7
        assert client.options.pool_options.connect_timeout == 0.8


def test_moments_are_understood_with_and_without_a_zone(server: mongo.StandIn) -> None:
    told = {"options": {"tz_aware": True}}
    with settings.override(MONGODB_BACKEND_SETTINGS=told), closing(MongoBackend(URL)) as store:
        store.store_many([document("a", date_done=1_800_000_000.25)])
        server(host="localhost")["results"].celery_taskmeta.update_one({"_id": "a"}, {"$unset": {"djq": 1}})
        aware = store.fetch("a")
    with closing(MongoBackend(URL)) as store:
        naive = store.fetch("a")
    assert aware is not None
    assert naive is not None
    assert aware.date_done == naive.date_done == 1_800_000_000.25


def test_an_address_whose_name_must_be_looked_up_asks_nobody_before_it_is_used() -> None:
    url = f"mongodb+srv://u:{PASSWORD}@cluster.shop.example/db?srvMaxHosts=2&srvServiceName=other&w=1"
    store = backend(url)
    assert isinstance(store, MongoBackend)
    assert store.as_uri() == "mongodb+srv://cluster.shop.example/db"
    told = arguments(url)
    assert told["host"] == ["mongodb+srv://cluster.shop.example/?srvMaxHosts=2&srvServiceName=other&w=1"]
    assert (told["username"], told["password"]) == ("u", PASSWORD)


@pytest.mark.parametrize(
    ("url", "told", "says"),
    [
        ("mongodb://", {"host": 5}, r"MONGODB_BACKEND_SETTINGS\['host'\] must be a name"),
        ("mongodb://", {"host": []}, r"MONGODB_BACKEND_SETTINGS\['host'\] must be a name"),
        (
            "mongodb://",
            {"host": "redis://h"},
            r"MONGODB_BACKEND_SETTINGS\['host'\] must begin with mongodb://",
        ),
        ("mongodb://", {"host": "mongodb://h/?foo=1"}, r"\['host'\] is no address .*Unknown option"),
        ("mongodb://", {"host": "a b:c"}, "MONGODB_BACKEND_SETTINGS or RESULT_BACKEND"),
        ("mongodb://a/?w=1", {"host": "mongodb://h"}, r"\['host'\] is an address, .* options of that"),
        ("mongodb://", {"port": "27017"}, r"MONGODB_BACKEND_SETTINGS\['port'\] must be a number from 1"),
        ("mongodb://", {"port": 0}, r"MONGODB_BACKEND_SETTINGS\['port'\] must be a number from 1"),
        ("mongodb://", {"user": 5}, r"MONGODB_BACKEND_SETTINGS\['user'\] must be text; it is int"),
        (
            "mongodb://",
            {"password": 271828},
            r"MONGODB_BACKEND_SETTINGS\['password'\] must be text; it is int",
        ),
        ("mongodb://", {"password": PASSWORD}, "MONGODB_BACKEND_SETTINGS has a password and no user"),
        ("mongodb://", {"database": "a b"}, "MongoDB takes no database .* MONGODB_BACKEND_SETTINGS"),
        ("mongodb://", {"taskmeta_collection": "a..b"}, r"no database or collection .*'a\.\.b'"),
        ("mongodb://", {"groupmeta_collection": "$b"}, r"no database or collection .*'\$b'"),
        ("mongodb://", {"max_pool_size": "many"}, "maxPoolSize must be an integer"),
        ("mongodb://", {"options": [1]}, r"MONGODB_BACKEND_SETTINGS\['options'\] must be a dict"),
        ("mongodb://", {"options": {"foo": 1}}, "MONGODB_BACKEND_SETTINGS .*Unknown option: foo"),
        ("mongodb://", {"hosts": "h"}, "MONGODB_BACKEND_SETTINGS .*Unknown option: hosts"),
        ("mongodb://", {"options": {"connect": True}}, "'connect', which must not be set: connections are"),
        ("mongodb://", {"options": {"document_class": dict}}, "'document_class', which must not be set"),
        ("mongodb://", {"options": {"w": 0}}, "With w=0 .* use 1 or 'majority'"),
        ("mongodb://h/?w=0", {}, "With w=0 .* use 1 or 'majority'"),
        ("mongodb://h/?foo=1", {}, "RESULT_BACKEND is no address .*Unknown option"),
        ("mongodb://h/?maxPoolSize=many", {}, "RESULT_BACKEND is no address .*must be an integer"),
        ("mongodb://h/db.tasks", {}, "names a collection .* 'taskmeta_collection'"),
        (f"mongodb://u:{PASSWORD}/1@h/db", {}, "RESULT_BACKEND is no address"),
        (f"mongodb://u:{PASSWORD}@1@h/db", {}, "RESULT_BACKEND is no address .* must be escaped"),
        (f"mongodb://h:{PASSWORD}/db", {}, "RESULT_BACKEND is no address"),
        ("mongodb+srv://h:27017/db", {}, "port"),
        ("mongodb+srv://h/db?srvMaxHosts=many", {}, "srvMaxHosts|srvmaxhosts"),
    ],
)
def test_wrong_settings_are_refused(url: str, told: dict[str, Any], says: str) -> None:
    with (
        settings.override(MONGODB_BACKEND_SETTINGS=told),
        pytest.raises(ImproperlyConfigured, match=re.compile(says, re.DOTALL)) as caught,
    ):
        MongoBackend(url)
    assert PASSWORD not in str(caught.value)
    assert "271828" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_settings_that_are_no_dict_are_refused() -> None:
    with pytest.raises(DjangoImproperlyConfigured, match=r"MONGODB_BACKEND_SETTINGS'\] must be a dict"):
        settings.update({"MONGODB_BACKEND_SETTINGS": "host"})
