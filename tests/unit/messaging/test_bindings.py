"""Which routing keys a binding lets through, by the type of its exchange.

Patterns and keys go in, as AMQP writes them.
"""

from __future__ import annotations

import pytest

from djqueue.messaging.queues import lets_through


@pytest.mark.parametrize(
    ("kind", "pattern", "key", "through"),
    [
        ("direct", "a", "a", True),
        ("direct", "a", "b", False),
        ("direct", "#", "a", False),
        ("fanout", "a", "b", True),
        ("topic", "task.#", "task.sent", True),
        ("topic", "task.#", "task", True),
        ("topic", "task.#", "worker.online", False),
        ("topic", "#", "", True),
        ("topic", "*.sent", "task.sent", True),
        ("topic", "*.sent", "a.task.sent", False),
        ("topic", "a.*.c", "a.c", False),
        ("topic", "#.c.#", "a.b.c.d", True),
        ("topic", "a+", "aa", False),
    ],
)
def test_keys_and_patterns(kind: str, pattern: str, key: str, through: bool) -> None:
    assert lets_through(kind, pattern, key) is through
