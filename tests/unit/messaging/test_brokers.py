"""From BROKER_URL to a broker: which one comes, what is said when there is none.

Settings and URLs go in; brokers are asked what they are called and what they can do. Nothing is sent.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from djqueue.conf import settings
from djqueue.core.calls import Call, Plan
from djqueue.exceptions import ImproperlyConfigured
from djqueue.messaging import brokers
from djqueue.messaging.contract import Broker


@pytest.fixture
def database() -> Iterator[Callable[..., None]]:
    """Return a way to add a database to DATABASES for the duration of the test."""
    added: list[str] = []

    def add(alias: str, **options: Any) -> None:
        connections.databases[alias] = {**connections["default"].settings_dict, **options}
        added.append(alias)

    yield add
    for alias in added:
        connections.databases.pop(alias)
        with suppress(AttributeError):  # nobody asked for the connection
            del connections[alias]


def test_without_a_setting_the_broker_is_the_default_database() -> None:
    broker = brokers.broker()
    assert repr(broker) == "django://default"
    assert broker.capabilities.transactional_alias == "default"
    assert broker.capabilities.delays


def test_the_setting_names_the_broker() -> None:
    with settings.override(BROKER_URL="memory://"):
        assert brokers.broker().capabilities.in_process


def test_a_process_has_one_broker_for_each_url() -> None:
    assert brokers.broker("memory://a") is brokers.broker("memory://a")
    assert brokers.broker("memory://a") is not brokers.broker("memory://b")


def test_reset_forgets_brokers_and_routes() -> None:
    before, routes = brokers.broker("memory://"), brokers.router()
    brokers.reset()
    assert brokers.broker("memory://") is not before
    assert brokers.router() is not routes


def test_the_router_follows_the_settings() -> None:
    call = Call(Plan.for_name("tests.add"))
    assert brokers.router() is brokers.router()
    assert brokers.router().place(call).queue == "default"
    with settings.override(TASK_DEFAULT_QUEUE="celery"):
        assert brokers.router().place(call).queue == "celery"
    with settings.override(TASK_ROUTES={"tests.*": "special"}):
        assert brokers.router().place(call).queue == "special"


@pytest.mark.parametrize("url", ["djnago://default", "nats://host", "nonsense"])
def test_an_unknown_scheme_names_the_supported_ones(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"Supported are .*django://.*memory://"):
        brokers.broker(url)


def test_a_broker_whose_library_is_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    monkeypatch.delitem(sys.modules, "kombu.transport.confluentkafka", raising=False)
    with pytest.raises(ImproperlyConfigured, match=r"pip install 'djqueue\[confluentkafka\]'"):
        brokers.broker("kafka://host")


def test_what_kombu_knows_is_reached_through_it() -> None:
    known = brokers.broker("filesystem://")
    assert type(known).__name__ == "GenericBroker"
    assert known.capabilities.exchanges == {"direct", "topic", "fanout"}
    assert brokers.broker("sqla+sqlite:///x.db").capabilities.exchanges == {"direct", "topic"}


def test_a_scheme_that_is_nearly_right_is_suggested_and_the_password_kept_secret() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"Did you mean django://…\?") as caught:
        brokers.broker("djang://user:s3cret@host")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["django", "django://", "django://default", "django://default/", "django:///"]
)
def test_all_spellings_of_the_default_database_mean_it(url: str) -> None:
    assert brokers.broker(url).capabilities.transactional_alias == "default"


def test_the_alias_keeps_its_capitals(database: Callable[..., None]) -> None:
    database("MyQueue")
    assert brokers.broker("django://MyQueue").capabilities.transactional_alias == "MyQueue"


def test_an_unknown_alias_names_those_that_are_near() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"no alias 'defualt'. Did you mean django://default\?"):
        brokers.broker("django://defualt")
    with pytest.raises(ImproperlyConfigured, match=r"Did you mean django://default or django://other\?"):
        brokers.broker("django://zzz")


def problems(broker: Broker) -> list[tuple[str, int]]:
    return [(problem.id, problem.level) for problem in broker.problems()]


def test_a_database_in_memory_serves_no_worker(database: Callable[..., None]) -> None:
    database("volatile", NAME=":memory:")
    broker = brokers.broker("django://volatile")
    with pytest.raises(ImproperlyConfigured, match=r"DATABASES\['volatile'\]\['NAME'\]"):
        broker.source(["default"], "worker")
    assert broker.start_board_path("worker") is None
    assert problems(broker) == [("sqlite_memory", logging.ERROR)]


def test_a_database_that_cannot_lock_rows_serves_no_worker(database: Callable[..., None]) -> None:
    database("server", ENGINE="django.db.backends.dummy")
    broker = brokers.broker("django://server")
    with pytest.raises(ImproperlyConfigured, match="workers receive from PostgreSQL, MySQL, MariaDB and SQL"):
        broker.source(["default"], "worker")
    assert problems(broker) == []


def test_checks_ask_for_immediate_transactions(database: Callable[..., None]) -> None:
    assert problems(brokers.broker("django://default")) == []
    database("deferred", OPTIONS={})
    assert problems(brokers.broker("django://deferred")) == [("sqlite_deferred", logging.INFO)]


@pytest.mark.parametrize("name", ["{}/db.sqlite3", "file:{}/db.sqlite3?cache=private"])
def test_the_living_have_their_files_beside_the_database(
    database: Callable[..., None], tmp_path: Path, name: str
) -> None:
    database("beside", NAME=name.format(tmp_path))
    path = brokers.broker("django://beside").start_board_path("worker@host")
    assert path == tmp_path / "db.sqlite3-djqueue" / "worker@host.board"
