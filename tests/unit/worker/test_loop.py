"""In which order the loop settles ends and gives children more to do.

Everything around the loop is a stand-in that notes what it is asked for; what workers do with real children
and brokers is tried by the crash tests.
"""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from djqueue import states
from djqueue.core.messages import WireMessage
from djqueue.messaging.delivery import Delivery
from djqueue.result.documents import Document
from djqueue.tasks.outcome import Outcome
from djqueue.worker.loop import Loop
from djqueue.worker.settlement import Settler

CHILDREN = 2


def order(ends: int) -> list[str]:
    """Return what one cycle asks store and broker for, when so many tasks have ended since the last one."""
    asked: list[str] = []
    source: Any = SimpleNamespace(
        together=nullcontext,
        settle=lambda settlements: asked.append("settle") or [],
        receive=lambda room: asked.append("receive") or [],
        tend=lambda now: 60.0,
    )
    backend: Any = SimpleNamespace(
        settling_with=lambda source: None,
        counts_chords=False,
        store_many=lambda documents: asked.append("store"),
    )
    settler = Settler(source, backend, lambda messages, once: None, lambda delivery: None)

    def take(reports: Any) -> None:
        for number in range(ends):
            delivery = Delivery(f"{number}", "default", WireMessage({}, {}, b""))
            settler.add(delivery.ack(), Outcome(states.SUCCESS, Document(f"{number}", states.SUCCESS)))

    parts: Any = SimpleNamespace(
        source=source,
        settler=settler,
        pool=SimpleNamespace(
            size=CHILDREN,
            room=lambda: CHILDREN,
            collect=list,
            needs_tending=False,
            tend=lambda now: 60.0,
        ),
        dispatcher=SimpleNamespace(
            take=take,
            tell_started=lambda now: None,
            seconds_to_tell_started=lambda: 60.0,
            taken_back=list,
            submit=lambda entries: None,
        ),
        waiting=SimpleNamespace(wait=lambda seconds: None, wake=lambda: None),
        components=SimpleNamespace(hurried=(), tick=lambda now: 60.0),
        waiting_room=(),
        ledger=(),
        in_hand=lambda: 0,
        autoscaler=None,
    )
    Loop(parts, prefetch_multiplier=0, grace=None).cycle()
    return asked


@pytest.mark.parametrize("ends", [1, CHILDREN])
def test_slow_tasks_are_settled_before_their_children_get_more(ends: int) -> None:
    """A kill in between makes run again what has just ended, and nothing else of that child."""
    assert order(ends) == ["store", "settle", "receive"]


def test_children_get_more_before_many_quick_tasks_are_settled() -> None:
    assert order(CHILDREN + 1) == ["receive", "store", "settle"]
