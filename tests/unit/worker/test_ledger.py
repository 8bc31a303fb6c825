"""The ledger numbers entries and learns run times, from which pools size their batches."""

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


def test_one_long_run_is_soon_forgotten_and_a_few_are_believed() -> None:
    ledger = Ledger()
    assert ledger.expected_runtime("add") == 0.0
    for _ in range(50):
        ledger.learn("add", 0.001)
    ledger.learn("add", 3.0)
    assert ledger.expected_runtime("add") <= 0.004
    for _ in range(6):
        ledger.learn("add", 3.0)
    assert ledger.expected_runtime("add") >= 1.0
    for _ in range(60):
        ledger.learn("add", 0.001)
    assert ledger.expected_runtime("add") < 0.05
    assert ledger.totals["add"] == 117
