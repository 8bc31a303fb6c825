"""Revoked tasks in the worker's mind: bounded, forgotten in time, read again from the broker's record."""

from __future__ import annotations

import time
from typing import Any

import pytest

from djqueue.exceptions import OperationalError
from djqueue.messaging import brokers
from djqueue.messaging.transports.memory import MemoryBroker
from djqueue.worker.revocations import READ_EVERY, Record, Revocations


def test_what_was_added_is_known_once() -> None:
    revocations = Revocations()
    assert not revocations
    assert revocations.add(["a", "b"]) == {"a", "b"}
    assert revocations.add(["b", "c"]) == {"c"}
    assert "a" in revocations
    assert "d" not in revocations
    assert revocations.task_ids() == ["a", "b", "c"]


def test_the_oldest_are_forgotten_when_there_are_too_many(settings: Any) -> None:
    settings.DJQUEUE = {"WORKER_REVOKES_MAX": 3}
    revocations = Revocations()
    for number in range(10):
        revocations.add([str(number)])
    assert revocations.task_ids() == ["7", "8", "9"]


def test_old_ones_are_forgotten(settings: Any) -> None:
    settings.DJQUEUE = {"REVOCATION_EXPIRES": 60}
    revocations = Revocations()
    revocations.add(["old"], when=time.time() - 61)
    revocations.add(["new"])
    assert revocations.task_ids() == ["new"]


@pytest.mark.django_db
def test_the_record_of_the_database_is_kept_and_read_again(settings: Any) -> None:
    broker = brokers.broker("django://default")
    broker.remember_revoked(["a", "b"])
    broker.remember_revoked(["b", "c"])
    revocations = Revocations()
    record = Record(broker, revocations)
    record.start()
    assert revocations.task_ids() == ["a", "b", "c"]
    broker.remember_revoked(["d"])
    assert record.tick(0.0) == READ_EVERY
    assert "d" in revocations
    settings.DJQUEUE = {"REVOCATION_EXPIRES": 1e-6}
    assert broker.revoked_since(0) == []
    broker.remember_revoked(["e"])
    settings.DJQUEUE = {}
    assert [task_id for task_id, _ in broker.revoked_since(0)] == ["e"]


class AwayBroker(MemoryBroker):
    """A broker that is away after the first reading."""

    readings = 0

    def revoked_since(self, moment: float) -> list[tuple[str, float]]:
        """Raise from the second reading on."""
        self.readings += 1
        if self.readings > 1:
            raise OperationalError("away")
        return [("a", time.time())]


def test_a_broker_that_is_away_is_asked_again_later() -> None:
    broker = AwayBroker("memory://")
    record = Record(broker, Revocations())
    record.start()
    assert record.tick(0.0) == READ_EVERY
    assert record.tick(5.0) == READ_EVERY
    assert broker.readings == 3
