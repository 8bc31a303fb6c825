"""What became of one run of a task, as the child reports it to the worker.

Everything that has to happen afterwards is inside, encoded: the document to store, the messages that
follow, and what becomes of the delivery. The parent stores, sends and settles without opening any of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from djqueue.core.messages import Outgoing
from djqueue.result.documents import Document

ACK, REQUEUE, REJECT = "ack", "requeue", "reject"


@dataclass(slots=True)
class Outcome:
    """The end of one run.

    `state` is a Celery state name (also IGNORED and REJECTED, which are never stored). `settle` is what
    becomes of the message: "ack", "requeue" (back to its queue) or "reject" (kept as a dead letter).
    `summary` is the capped repr of the result or exception; `runtime` is in seconds; `expected` marks an
    exception the task listed in `throws`. `never_run` are documents for the later tasks of a chain that are
    not sent because this one failed.
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
        )

    @classmethod
    def unpack(cls, packed: tuple[Any, ...]) -> Outcome:
        """Return the outcome that `pack` made a tuple of."""
        state, document, messages, settle, runtime, summary, traceback, expected, never_run = packed
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
        )
