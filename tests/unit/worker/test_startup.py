"""A worker that starts while its broker is away waits for it, with growing pauses, as often as is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from djqueue.conf import settings
from djqueue.exceptions import OperationalError
from djqueue.messaging.transports.memory import MemoryBroker
from djqueue.worker.startup import wait_for


class Away(MemoryBroker):
    """Comes back when it was asked `tries` times in vain."""

    tries = 0

    def size(self, queue: str) -> int:
        self.tries -= 1
        if self.tries >= 0:
            raise OperationalError("nobody is there")
        return 0


def pauses(tries: int, **changes: Any) -> list[float]:
    """Return the pauses until a broker that is away for so many tries is there."""
    broker, slept = Away("memory://away"), list[float]()
    broker.tries = tries
    with settings.override(**changes):
        wait_for(broker, "default", slept.append)
    return slept


def test_it_is_not_waited_for_when_it_is_there() -> None:
    assert pauses(0) == []


def test_pauses_grow_as_in_celery() -> None:
    assert pauses(17) == [*range(2, 31, 2), 30, 30]


def test_it_is_tried_as_often_as_is_allowed() -> None:
    assert len(pauses(3, BROKER_CONNECTION_MAX_RETRIES=3)) == 3
    with pytest.raises(OperationalError, match="nobody is there"):
        pauses(4, BROKER_CONNECTION_MAX_RETRIES=3)
    assert len(pauses(150, BROKER_CONNECTION_MAX_RETRIES=0)) == 150


def test_waiting_can_be_turned_off() -> None:
    assert pauses(4, BROKER_CONNECTION_RETRY_ON_STARTUP=False) == []
