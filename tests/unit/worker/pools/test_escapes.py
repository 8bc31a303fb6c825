"""Whatever an exception does when it is asked for its text, there is a line about it."""

from __future__ import annotations

from djqueue.worker.pools.escapes import LONGEST, describe


class Shy(Exception):
    """Does not say what it is."""

    def __str__(self) -> str:
        raise SystemExit


def test_an_exception_is_described_by_name_and_text() -> None:
    assert describe(SystemExit(3)) == "SystemExit: 3 came out of the task"
    assert describe(KeyboardInterrupt()) == "KeyboardInterrupt came out of the task"


def test_a_text_that_cannot_be_made_hides_nothing() -> None:
    assert describe(Shy()) == "Shy: (its text cannot be made) came out of the task"


def test_a_long_text_is_cut() -> None:
    assert len(describe(MemoryError("x" * 10_000))) < LONGEST + 50
