"""The result stores that the contract is asked of.

A name comes in from a test's parameters, a `ResultBackend` leaves. A new store is one more line in `STORES`.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from django.db import connections

from djqueue.result.backends import backend
from djqueue.result.contract import ResultBackend
from djqueue_results.backends import statements


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


STORES: dict[str, Callable[[pytest.MonkeyPatch], ResultBackend]] = {
    "django-db": django_db,
    "django-db, row by row": django_db_row_by_row,
    "redis": redis_store,
}


def in_thread(work: Callable[[], object]) -> None:
    """Do the work and leave no connection behind."""
    try:
        work()
    finally:
        connections.close_all()
