"""Sending inside transactions of database servers, where a second connection can go beside them.

Tasks are sent in atomic blocks of PostgreSQL and MariaDB; what is in the table is looked at from outside.
"""

from __future__ import annotations

import asyncio

import pytest
from django.db import connection, transaction

from djqueue import enqueue_many
from djqueue.messaging import brokers
from djqueue.models import Message
from tests.project import tasks

pytestmark = pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)


def arrived() -> list[str]:
    """Return the ids of the messages that others see."""
    outside = connection.copy()
    outside.inc_thread_sharing()
    try:
        with outside.cursor() as cursor:
            cursor.execute(f"SELECT task_id FROM {Message._meta.db_table} ORDER BY id")
            return [row[0] for row in cursor.fetchall()]
    finally:
        outside.close()


def test_a_task_is_part_of_the_transaction(database: str) -> None:
    with transaction.atomic():
        kept = tasks.add.delay(1, 2)
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            tasks.add.delay(3, 4)
            raise ZeroDivisionError
        assert arrived() == []
    assert arrived() == [kept.id]


def test_a_task_may_be_sent_beside_the_transaction_that_is_open(database: str) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        tasks.add.delay(1, 2)
        now = tasks.add.apply_async((3, 4), on_commit=False)
        assert arrived() == [now.id]
        raise ZeroDivisionError
    assert arrived() == [now.id]


def test_coroutines_await_their_sending(database: str) -> None:
    async def send() -> str:
        return str((await tasks.add.adelay(1, 2)).id)

    task_id = asyncio.run(send())
    assert arrived() == [task_id]


def test_thousands_are_sent_in_one_go_and_in_order(database: str) -> None:
    ids = [f"{number:05}" for number in range(3_000)]
    from_us = [tasks.add.s(1, 2).set(task_id=one) for one in ids]
    with transaction.atomic():
        for signature in from_us[:2]:
            signature.apply_async()
    enqueue_many(from_us[2:])
    assert arrived() == ids
    assert brokers.broker().purge("default") == 3_000
