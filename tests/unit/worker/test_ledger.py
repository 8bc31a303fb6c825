"""The ledger numbers entries, and learns run times so that batches shrink fast and grow slowly."""

from __future__ import annotations

from djqueue.core.messages import WireMessage
from djqueue.core.requests import Request
from djqueue.messaging.delivery import Delivery
from djqueue.worker.ledger import Ledger


def test_numbers_are_never_used_twice() -> None:
    ledger = Ledger()
    numbers = set()
    for tag in range(10):
        entry = ledger.open(Delivery(str(tag), "default", WireMessage({}, {}, b"")), Request(id=str(tag)))
        numbers.add(entry.number)
        ledger.close(entry)
        ledger.close(entry)
    assert len(numbers) == 10
    assert len(ledger) == 0


def test_a_long_run_counts_at_once_and_short_ones_slowly() -> None:
    ledger = Ledger()
    assert ledger.expected_runtime("add") == 0.0
    for _ in range(50):
        ledger.learn("add", 0.001)
    assert ledger.expected_runtime("add") < 0.002
    ledger.learn("add", 3.0)
    assert ledger.expected_runtime("add") == 3.0
    ledger.learn("add", 0.001)
    assert ledger.expected_runtime("add") > 2.0
    assert ledger.totals["add"] == 52
