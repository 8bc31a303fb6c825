"""Counting the parts of chords, and what comes after the last one: the body's message, or its failure.

Parts come in from whoever has stored their results, a worker or a task that commits itself; it is told which
chords another worker has in hand. Everything here may be repeated: parts count once, a body is sent under one
name, chords close last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from djqueue import states
from djqueue.core.messages import Outgoing
from djqueue.result.chords import ChordCount, ChordPart
from djqueue.result.contract import ResultBackend
from djqueue.tasks import chords


class Completion:
    """Sees chords through. Used by one thread only.

    `publish` takes messages and a name under which they are sent at most once, if the broker can tell;
    `tell_failed` hears of chords that failed, and why.
    """

    def __init__(
        self,
        backend: ResultBackend,
        publish: Callable[[Sequence[Outgoing], str], None],
        tell_failed: Callable[[str, str], None],
    ) -> None:
        self._backend = backend
        self._publish = publish
        self._tell_failed = tell_failed

    def count(self, parts: Sequence[ChordPart]) -> set[str]:
        """Count the parts, and let bodies follow; return the chords that another worker is completing.

        Parts of those must be counted again later: if that worker dies, nobody else would see them through.
        """
        latest = {part.group_id: part for part in parts}
        counts = self._backend.count_parts(parts)
        held = {count.group_id for count in counts if not self._complete(count, latest[count.group_id])}
        closed = [count.group_id for count in counts if count.group_id not in held]
        if closed:
            self._backend.close_chords(closed)
        return held

    def _complete(self, count: ChordCount, counted: ChordPart) -> bool:
        """Do what comes after a chord that is complete; return whether it may be closed."""
        if count.parts is None:
            return False
        try:
            outcome = chords.completed(count, counted)
        except Exception as error:  # the body is no signature: nothing can come after this chord
            self._tell_failed(count.group_id, f"its body cannot be used: {error!r}")
            return True
        if outcome.state == states.FAILURE:
            self._tell_failed(count.group_id, outcome.summary)
        if outcome.never_run:
            self._backend.store_many(outcome.never_run)
        if outcome.openings:
            self._backend.open_chords(outcome.openings)
        if outcome.follow_ups:
            self._publish(outcome.follow_ups, f"chord:{count.group_id}")
        return not (outcome.parts and self.count(outcome.parts))
