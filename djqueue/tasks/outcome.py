"""What became of one run of a task, as the child reports it to the worker.

Everything that has to happen afterwards is inside, encoded: the document to store, the messages that
follow, and what becomes of the delivery. The parent stores, sends and settles without opening any of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from djqueue.core.messages import Outgoing
from djqueue.result.chords import ChordOpening, ChordPart
from djqueue.result.documents import Document

ACK, REQUEUE, REJECT, SETTLED = "ack", "requeue", "reject", "settled"


@dataclass(slots=True)
class Outcome:
    """The end of one run.

    `state` is a Celery state name (also IGNORED and REJECTED, which are never stored). `settle` is what
    becomes of the message: "ack", "requeue" (back to its queue), "reject" (kept as a dead letter) or
    "settled" (it is gone already, and everything was stored and sent).
    `summary` is the capped repr of the result or exception; `runtime` is in seconds; `expected` marks an
    exception the task listed in `throws`. `never_run` are documents for the later tasks of a chain that are
    not sent because this one failed. `openings` are chords among the follow-ups, opened before those leave;
    `parts` are what the run has ended of chords, counted after.
    """

    state: str
    document: Document | None = None
    follow_ups: list[Outgoing] = field(default_factory=list)
    settle: str = ACK
    runtime: float = 0.0
    summary: str = ""
    traceback: str | None = None
    expected: bool = False
    never_run: list[Document] = field(default_factory=list)
    openings: list[ChordOpening] = field(default_factory=list)
    parts: list[ChordPart] = field(default_factory=list)

    def absorb(self, other: Outcome) -> None:
        """Take over what another end brings about: messages, chords, parts, and documents of other tasks."""
        self.follow_ups += other.follow_ups
        self.never_run += other.never_run
        self.openings += other.openings
        self.parts += other.parts

    def pack(self) -> tuple[Any, ...]:
        """Return the outcome as a tuple of builtins."""
        document = self.document and self.document.pack()
        messages = [outgoing.pack() for outgoing in self.follow_ups]
        return (
            self.state,
            document,
            messages,
            self.settle,
            self.runtime,
            self.summary,
            self.traceback,
            self.expected,
            [later.pack() for later in self.never_run],
            [opening.pack() for opening in self.openings],
            [part.pack() for part in self.parts],
        )

    @classmethod
    def unpack(cls, packed: tuple[Any, ...]) -> Outcome:
        """Return the outcome that `pack` made a tuple of."""
        state, document, messages, settle, runtime, summary, traceback, expected, *lists = packed
        never_run, openings, parts = lists
        return cls(
            state,
            document and Document.unpack(document),
            [Outgoing.unpack(message) for message in messages],
            settle,
            runtime,
            summary,
            traceback,
            expected,
            [Document.unpack(later) for later in never_run],
            [ChordOpening(*opening) for opening in openings],
            [ChordPart(*part) for part in parts],
        )
