"""Django around a task: connections are looked after, and a child never touches its parent's."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.db import connection, connections
from django.test import override_settings

from djqueue import shared_task, states
from djqueue.tasks.unit_of_work import UnitOfWork, after_fork, close_connections
from tests.support.in_process import Inbox


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_broke_in_a_task_is_replaced_before_the_next(inbox: Inbox) -> None:
    @shared_task(name="work.look")
    def look(breaks: bool) -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        if breaks:
            connection.connection.close()
            connection.errors_occurred = True
        return 1

    look.delay(True)
    assert inbox.run().state == states.SUCCESS
    look.delay(False)
    assert inbox.run().state == states.SUCCESS


@pytest.mark.django_db(transaction=True)
def test_the_query_log_is_emptied_and_an_old_connection_closed() -> None:
    with override_settings(DEBUG=True):
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        assert connection.queries
        with UnitOfWork():
            assert not connection.queries
    connection.close_at = 0.0  # CONN_MAX_AGE is over
    with UnitOfWork():
        assert connection.connection is None


@pytest.mark.django_db(transaction=True)
def test_a_transaction_left_open_by_hand_does_not_reach_the_next_task() -> None:
    with UnitOfWork():
        connection.set_autocommit(False)
    assert connection.connection is None
    with UnitOfWork():
        assert connection.get_autocommit()


closed: list[BaseCache] = []


class Connected(LocMemCache):
    """A cache that has something to close."""

    def close(self, **_: Any) -> None:
        closed.append(self)


def test_caches_are_closed_after_the_task() -> None:
    closed.clear()
    with override_settings(CACHES={"default": {"BACKEND": f"{__name__}.Connected"}}):
        cache = caches["default"]
        with UnitOfWork():
            assert closed == []
        assert closed == [cache]


def test_a_cache_that_is_not_installed_and_not_used_does_no_harm() -> None:
    local = "django.core.cache.backends.locmem.LocMemCache"
    with (
        override_settings(
            CACHES={"default": {"BACKEND": local}, "other": {"BACKEND": "not.installed.Cache"}}
        ),
        UnitOfWork(),
    ):
        pass


@pytest.mark.django_db(transaction=True)
def test_a_thread_that_ends_closes_what_it_opened() -> None:
    connection.ensure_connection()
    close_connections()
    assert connection.connection is None


@pytest.mark.django_db(transaction=True)
def test_after_a_fork_inherited_connections_are_forgotten_but_not_closed() -> None:
    connection.ensure_connection()
    inherited = connections["default"]
    raw = inherited.connection
    after_fork()
    try:
        assert connections["default"] is not inherited
        assert connections["default"].connection is None
        assert raw.execute("SELECT 1").fetchone() == (1,)
        with connection.cursor() as cursor:
            cursor.execute("SELECT 2")
            assert cursor.fetchone() == (2,)
    finally:
        connection.close()
        connections["default"] = inherited


@pytest.mark.django_db(transaction=True)
def test_after_a_fork_not_a_byte_reaches_the_parents_server() -> None:
    ours, servers = socket.socketpair()

    class Session:
        """A driver's connection that says goodbye when it is closed, as those of servers do."""

        def fileno(self) -> int:
            return ours.fileno()

        def close(self) -> None:
            os.write(ours.fileno(), b"goodbye")

    connection.ensure_connection()
    inherited = connections["default"]
    raw, inherited.connection = inherited.connection, Session()
    kept = os.dup(ours.fileno())  # the parent's end stays open
    try:
        after_fork()
        inherited.connection.close()
        servers.setblocking(False)
        with pytest.raises(BlockingIOError):
            servers.recv(100)
    finally:
        os.close(kept)
        ours.close()
        servers.close()
        connection.close()
        inherited.connection = raw
        connections["default"] = inherited
