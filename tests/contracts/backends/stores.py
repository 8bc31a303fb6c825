"""The result stores that the contract is asked of.

A name comes in from a test's parameters, a `ResultBackend` leaves. A new store is one more line in `STORES`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module

import pytest
from django.db import connections

from djqueue.core.names import reply_address
from djqueue.result.backends import backend
from djqueue.result.contract import ResultBackend
from djqueue.result.documents import Document
from djqueue_results.backends import statements
from djqueue_results.backends.rpc import RpcBackend
from tests.support.servers import missing


def django_db(monkeypatch: pytest.MonkeyPatch) -> ResultBackend:
    """Return the ORM store as it is."""
    return backend("django-db")


def django_db_row_by_row(monkeypatch: pytest.MonkeyPatch) -> ResultBackend:
    """Return the ORM store as it works on databases of which it does not know the bulk statement."""
    monkeypatch.setattr(statements, "DIALECTS", {})
    return backend("django-db")


def redis_store(monkeypatch: pytest.MonkeyPatch) -> ResultBackend:
    """Return the Redis store; the variable names the server, for processes that tests start, too."""
    return backend(os.environ["DJQUEUE_TEST_REDIS_URL"])


class OwnReplies(RpcBackend):
    """The rpc store for a process that is sender and worker in one."""

    def store_many(self, documents: Sequence[Document]) -> None:
        super().store_many([replace(document, reply_to=reply_address()) for document in documents])


def rpc(monkeypatch: pytest.MonkeyPatch) -> ResultBackend:
    """Return the rpc store, over the broker of the settings."""
    store = OwnReplies("rpc://")
    store.expect_results()
    return store


def memcached(monkeypatch: pytest.MonkeyPatch) -> ResultBackend:
    """Return the memcached store; the variable names the server."""
    return backend(os.environ["DJQUEUE_TEST_MEMCACHED_URL"])


def django_cache(monkeypatch: pytest.MonkeyPatch) -> ResultBackend:
    """Return the store in a Django cache that processes share."""
    return backend("django-cache://shared")


def memory(monkeypatch: pytest.MonkeyPatch) -> ResultBackend:
    """Return the store in this process's memory."""
    return backend("cache+memory://")


def s3(monkeypatch: pytest.MonkeyPatch) -> ResultBackend:
    """Return the store in a bucket, over the settings."""
    return backend("s3://")


def mongodb(monkeypatch: pytest.MonkeyPatch) -> ResultBackend:
    """Return the store in MongoDB, over what stands in for its server; others need not have that."""
    try:
        import_module("tests.support.mongo").stand_in(monkeypatch)
    except ImportError as error:
        missing(f"{error}: pip install -e '.[test]'")
    return backend("mongodb://localhost/results")


def named(monkeypatch: pytest.MonkeyPatch) -> ResultBackend:
    """Return the store that the variable names."""
    return backend(os.environ["DJQUEUE_TEST_RESULTS"])


STORES: dict[str, Callable[[pytest.MonkeyPatch], ResultBackend]] = {
    "django-db": django_db,
    "django-db, row by row": django_db_row_by_row,
    "django-db in postgresql": django_db,
    "django-db in mariadb": django_db,
    "redis": redis_store,
    "redis, compressed": redis_store,
    "memcached": memcached,
    "django cache in redis": django_cache,
    "memory": memory,
    "files": named,
    "sql in sqlite": named,
    "sql in postgresql": named,
    "sql in mariadb": named,
    "s3": s3,
    "dynamodb": named,
    "azure": named,
    "mongodb": mongodb,
    "gs": named,
    "third party's": named,
    "rpc over redis": rpc,
    "rpc over sqlite": rpc,
    "rpc over rabbitmq": rpc,
}


#: stores that are there for other processes, too, but not where tests stand in for their servers
IN_THIS_PROCESS = {"mongodb"}
#: stores that take no large results: these end as failures that say so
TAKE_LITTLE = {"dynamodb"}


def in_thread(work: Callable[[], object]) -> None:
    """Do the work and leave no connection behind."""
    try:
        work()
    finally:
        connections.close_all()
