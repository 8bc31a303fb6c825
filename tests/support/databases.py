"""Databases on real servers, to stand in for the tests' SQLite file.

`on(server)` makes a database there and removes it afterwards; `standing_in(url)` makes it the alias "default"
of this process, and of those it starts. Tables are migrated once, and emptied before each test.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pymysql
import pytest
import sqlalchemy
from asgiref.sync import SyncToAsync
from django.apps import apps
from django.core.management import call_command
from django.db import connections
from django.db.backends.postgresql.base import Database as postgresql  # type: ignore[attr-defined]  # noqa: N813
from sqlalchemy.pool import NullPool

from tests.project.settings import on_server
from tests.support.proxy import Proxy
from tests.support.servers import Server

VARIABLE = "DJQUEUE_TEST_DATABASE"


@contextmanager
def on(server: Server) -> Iterator[str]:
    """Make a migrated database on the server and give its URL; remove it afterwards."""
    name = f"djqueue_test_{os.getpid()}"
    parts = urlsplit(server.url)
    _administer(
        server.url, f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name}{_charset(server.url)}"
    )
    url = parts._replace(path=f"/{name}").geturl()
    try:
        with standing_in(url):
            call_command("migrate", verbosity=0)
        yield url
    finally:
        _administer(server.url, f"DROP DATABASE {name}{_force(server.url)}")


@contextmanager
def standing_in(url: str) -> Iterator[None]:
    """Let the database at the URL be the default one inside the block."""
    ours = connections["default"]
    settings = connections.settings["default"]
    before = os.environ.get(VARIABLE)
    connections.settings["default"] = connections.configure_settings({"default": on_server(url)})["default"]
    connections["default"] = connections.create_connection("default")
    os.environ[VARIABLE] = url
    _forget_in_the_thread_for_async_code()
    try:
        yield
    finally:
        connections["default"].close()
        connections.settings["default"] = settings
        connections["default"] = ours
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
        _forget_in_the_thread_for_async_code()


def empty() -> None:
    """Delete every row of the apps under test."""
    with connections["default"].cursor() as cursor:
        for label in ("djqueue", "djqueue_results", "djqueue_beat"):
            for model in reversed(list(apps.get_app_config(label).get_models(include_auto_created=True))):
                cursor.execute(f"DELETE FROM {model._meta.db_table}")


def sql_url(kind: str, request: pytest.FixtureRequest, directory: Path) -> str:
    """Return the address of the store in Celery's tables, on a database of that kind."""
    if kind == "sqlite":
        return f"db+sqlite:///{directory}/results.sqlite3"
    _, rest = request.getfixturevalue(f"{kind}_database").split("://")
    return f"db+{'postgresql+psycopg' if kind == 'postgresql' else 'mysql+pymysql'}://{rest}"


def through(address: str, proxy: Proxy) -> str:
    """Return the store's address by way of the proxy."""
    parts = urlsplit(address)
    return parts._replace(netloc=f"{parts.username}@{urlsplit(proxy.url).netloc}").geturl()


def empty_tables(address: str) -> str:
    """Drop Celery's tables in the database at the store's address, which is returned."""
    engine = sqlalchemy.create_engine(address.removeprefix("db+"), poolclass=NullPool)
    with engine.begin() as connection:
        for table in ("celery_taskmeta", "celery_tasksetmeta"):
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")
    engine.dispose()
    return address


def _forget_in_the_thread_for_async_code() -> None:
    """Let asgiref's thread for synchronous code make a new connection when it needs one."""

    def forget() -> None:
        connections.close_all()
        if any(connection.alias == "default" for connection in connections.all(initialized_only=True)):
            del connections["default"]

    executor = SyncToAsync.single_thread_executor
    if executor._threads:
        executor.submit(forget).result()


def _administer(url: str, *statements: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "mysql":
        connection = pymysql.connect(
            host=parts.hostname, port=parts.port or 3306, user=parts.username, password=parts.password or ""
        )
        with closing(connection), connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
    else:
        with closing(postgresql.connect(url)) as server:  # psycopg 3 or 2, whichever Django took
            server.autocommit = True
            for statement in statements:
                server.cursor().execute(statement)


def _charset(url: str) -> str:
    return " CHARACTER SET utf8mb4" if url.startswith("mysql:") else ""


def _force(url: str) -> str:
    return "" if url.startswith("mysql:") else " WITH (FORCE)"
