"""Components are ticked when they are due, and at once when somebody hurries them."""

from __future__ import annotations

from djqueue.worker.components import Components


class Counting:
    """Counts its ticks, and wants the next in ten seconds."""

    def __init__(self) -> None:
        self.ticks = 0

    def start(self) -> None:
        """Begin."""

    def tick(self, now: float) -> float:
        """Count."""
        self.ticks += 1
        return 10.0

    def stop(self) -> None:
        """End."""


def test_a_hurried_component_is_ticked_and_others_wait_their_turn() -> None:
    components, one, two = Components(()), Counting(), Counting()
    components.add("one", one)
    components.add("two", two)
    components.start()
    assert components.tick(100.0) == 10.0
    components.hurry("one")
    assert components.hurried
    assert components.tick(104.0) == 6.0
    assert not components.hurried
    assert (one.ticks, two.ticks) == (2, 1)
    assert components.tick(110.0) == 4.0
    assert (one.ticks, two.ticks) == (2, 2)
