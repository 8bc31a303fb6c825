"""What happens after a task ends: its result is stored, what follows is sent, then it is acknowledged.

Outcomes come in one by one and leave in batches. Parts of chords are counted after what follows was sent and
before the acknowledgement. Where broker and result store share a database all steps commit as one; elsewhere
their order makes sure that nothing is acknowledged before its result and its follow-ups are safe. A store or
broker that is down makes the batch wait, never fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from djqueue.core.messages import Outgoing
from djqueue.exceptions import BackendStoreError
from djqueue.messaging.contract import Source
from djqueue.messaging.delivery import Delivery, Settlement
from djqueue.result.chords import ChordOpening, ChordPart
from djqueue.result.contract import ResultBackend
from djqueue.result.documents import Document
from djqueue.tasks.completion import Completion
from djqueue.tasks.outcome import Outcome
from djqueue.worker import log_lines
from djqueue.worker.outages import Outage


class Settler:
    """Collects ends, and settles them together. Used by the loop's thread only.

    `publish` sends follow-ups, given a name at most once under it; `told_lost` hears of deliveries that were
    no longer ours.
    """

    #: so many ends are settled at once even if more are about to come
    BATCH = 32
    #: an end waits at most so long for company, seconds
    LINGER = 0.005
    #: above so many unsettled ends the loop receives nothing new (a store that is down must not fill memory)
    MOST_WAITING = 1_000
    #: a chord that another worker completes is asked for again after so long, seconds
    ASK_AGAIN = 1.0

    def __init__(
        self,
        source: Source,
        backend: ResultBackend,
        publish: Callable[[Sequence[Outgoing], str | None], None],
        told_lost: Callable[[Delivery], None],
    ) -> None:
        self._source = source
        self._backend = backend
        self._publish = publish
        self._told_lost = told_lost
        self._settle_with = backend.settling_with(source)
        self._documents: list[Document] = []
        self._follow_ups: list[Outgoing] = []
        self._settlements: list[Settlement] = []
        self._openings: list[ChordOpening] = []
        # Ends whose parts are to be counted before they are settled; held ones not before `_ask_at`.
        self._counting: list[tuple[list[ChordPart], Settlement | None]] = []
        self._held: list[tuple[list[ChordPart], Settlement | None]] = []
        self._ask_at = 0.0
        self._completion = Completion(backend, publish, log_lines.chord_failed)
        self._waiting_since: float | None = None
        self.outage = Outage(self._say_deferred, log_lines.results_stored)

    def __len__(self) -> int:
        return self._ready() + len(self._held)

    def _ready(self) -> int:
        return len(self._settlements) + len(self._documents) + len(self._follow_ups) + len(self._counting)

    @property
    def unanswered(self) -> int:
        """How many deliveries wait for the answer that their task has ended."""
        return len(self._settlements) + len(self._counting)

    @property
    def is_full(self) -> bool:
        """Whether so much waits that nothing new should be received."""
        return len(self) >= self.MOST_WAITING

    def add(
        self,
        settlement: Settlement | None = None,
        outcome: Outcome | None = None,
    ) -> None:
        """Take one end: the answer to its delivery, and the outcome to store and to send."""
        if outcome is not None and outcome.parts and self._backend.counts_chords:
            self._counting.append((outcome.parts, settlement))
        elif settlement is not None:
            self._settlements.append(settlement)
        if outcome is not None:
            self._openings.extend(outcome.openings)
            if outcome.document is not None:
                self._documents.append(outcome.document)
            if outcome.never_run:
                self._documents.extend(outcome.never_run)
            if outcome.follow_ups:
                self._follow_ups.extend(outcome.follow_ups)

    def store(self, document: Document) -> None:
        """Take a state of a task that goes on."""
        self._documents.append(document)

    def is_worth_a_batch(self, now: float) -> bool:
        """Return whether enough has come together, or has waited long enough."""
        if self._waiting_since is None and self._ready():
            self._waiting_since = now
        return self._ready() >= self.BATCH or now - (self._waiting_since or now) >= self.LINGER

    def settle(self, now: float) -> bool:
        """Store, send and settle all that waits; return whether nothing waits any more.

        A failure leaves everything as it was, to be tried again when the outage allows.
        """
        if self._held and now >= self._ask_at:
            self._counting += self._held
            self._held = []
        if not self._ready():
            return not self._held
        if not self.outage.may_try(now):
            return False
        try:
            with self._source.together():
                held: set[str] = set()
                lost = self._settle_at_once()
                if lost is None:
                    held, lost = self._settle_step_by_step()
        except Exception as error:  # whatever the store or the broker raise: wait, never lose an end
            self.outage.note(error, now)
            return False
        self.outage.over(now)
        if held:
            self._held += [end for end in self._counting if _is_in(end[0], held)]
            self._ask_at = now + self.ASK_AGAIN
        self._documents, self._follow_ups, self._settlements = [], [], []
        self._openings, self._counting = [], []
        self._waiting_since = None
        for delivery in lost:
            self._told_lost(delivery)
        return True

    def acknowledge_first(self, settlements: Sequence[Settlement], now: float) -> list[Delivery] | None:
        """Acknowledge before the tasks start (acks_late=False); return the deliveries no longer ours.

        None when the broker is away: none of them may start then, and the same settlements are tried again.
        """
        if not self.outage.may_try(now):
            return None
        try:
            lost = self._source.settle(settlements)
        except Exception as error:  # whatever the broker raises
            self.outage.note(error, now)
            return None
        self.outage.over(now)
        for delivery in lost:
            self._told_lost(delivery)
        return lost

    def seconds_to_next(self, now: float, *, lingering: bool = False) -> float:
        """Return in how many seconds settling makes sense (infinity: nothing waits)."""
        if not self._ready():
            return max(self._ask_at - now, 0.0) if self._held else float("inf")
        if lingering and self._waiting_since is not None and self._ready() < self.BATCH:
            return max(self._waiting_since + self.LINGER - now, self.outage.seconds_left(now))
        return self.outage.seconds_left(now)

    def _settle_at_once(self) -> Sequence[Delivery] | None:
        """Store and settle in one step, where that can be done and there is nothing to do in between."""
        if self._settle_with is None or self._openings or self._follow_ups or self._counting:
            return None
        if not (self._documents and self._settlements):
            return None
        return self._settle_with(self._documents, self._settlements)

    def _settle_step_by_step(self) -> tuple[set[str], Sequence[Delivery]]:
        """Return the chords that another worker has in hand, and the deliveries that were not ours."""
        if self._documents:
            self._backend.store_many(self._documents)
        if self._openings:
            self._backend.open_chords(self._openings)
        if self._follow_ups:
            self._publish(self._follow_ups, None)
        held = self._count()
        settlements = [*self._settlements, *self._counted(held)]
        return held, self._source.settle(settlements) if settlements else ()

    def _count(self) -> set[str]:
        """Count the parts of chords; return the chords that another worker has in hand."""
        parts = [part for some, _ in self._counting for part in some]
        return self._completion.count(parts) if parts else set()

    def _counted(self, held: set[str]) -> list[Settlement]:
        """Return the answers to the deliveries whose parts need not be counted again."""
        return [one for parts, one in self._counting if one is not None and not _is_in(parts, held)]

    def _say_deferred(self, error: Exception) -> None:
        kind = "" if isinstance(error, BackendStoreError) else f"{type(error).__name__}: "
        log_lines.results_deferred(len(self), f"{kind}{error}")


def _is_in(parts: Sequence[ChordPart], groups: set[str]) -> bool:
    return any(part.group_id in groups for part in parts)
