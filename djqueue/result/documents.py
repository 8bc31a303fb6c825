"""The stored form of a task's state and result.

The process that ran the task makes a `Document`, with the value already encoded, so that the parent and
the backend only move text. Readers turn it back into values with `value()`, or into the dictionary that
Celery calls the task's meta with `as_meta()`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, NamedTuple

from djqueue import states
from djqueue.conf import settings
from djqueue.core import serialization
from djqueue.core.requests import attempt_number
from djqueue.core.wire_exceptions import exception_from_wire, exception_to_wire


class Encoded(NamedTuple):
    """A value on its way into a document: what `Document` calls result, content type and encoding."""

    result: str | bytes
    content_type: str
    content_encoding: str


def encode_value(value: Any) -> Encoded:
    """Return the value as results are written (RESULT_SERIALIZER).

    Raises:
        djqueue.exceptions.EncodeError: the serializer cannot write it.
    """
    content_type, encoding, body = serialization.dumps(value, settings.RESULT_SERIALIZER)
    return Encoded(body.decode(encoding) if encoding == "utf-8" else body, content_type, encoding)


def encode_exception(exc: BaseException) -> Encoded:
    """Return the exception as results carry it; arguments that cannot be written become their repr."""
    return encode_value(exception_to_wire(exc))


def fence(status: str, attempt: int, retries: int = 0) -> int:
    """Return the smallest attempt that may still change what is stored in this state.

    Until it ends, a task's document is open to its own attempt and later ones. An end is final for its
    attempt, and a success also for all redeliveries: only a further retry replaces it.
    """
    if status == states.SUCCESS:
        return max(attempt + 1, attempt_number(retries + 1, 0))
    return attempt + 1 if status in states.READY_STATES else attempt


def accepted_contents() -> tuple[str, ...]:
    """Return the content types that may be read from results."""
    accepted = settings.RESULT_ACCEPT_CONTENT
    return tuple(settings.ACCEPT_CONTENT if accepted is None else accepted)


@dataclass(slots=True)
class Document:
    """One state of one task.

    `result` is the encoded value (or the exception's wire form, or a custom state's meta) in
    `content_type`/`content_encoding`. `attempt` orders writes: a backend refuses one that is older than
    what it holds, and a terminal state is final for its attempt. Times are seconds since the epoch.
    `children` are Celery result tuples. `args`, `kwargs` are safe representations. `stamps` are the call's,
    as the text of a JSON object. `reply_to` is the caller's queue for replies and `correlation_id` what it
    knows the task by, if not by its id: stores that send results instead of keeping them go by these.
    """

    task_id: str
    status: str
    result: str | bytes = "null"
    content_type: str = "application/json"
    content_encoding: str = "utf-8"
    traceback: str | None = None
    children: list[Any] | None = None
    date_done: float | None = None
    date_started: float | None = None
    attempt: int = 0
    retries: int = 0
    name: str | None = None
    args: str | None = None
    kwargs: str | None = None
    worker: str | None = None
    queue: str | None = None
    group_id: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    periodic_task_name: str | None = None
    stamps: str | None = None
    reply_to: str | None = field(default=None, compare=False)
    correlation_id: str | None = field(default=None, compare=False)

    def value(self) -> Any:
        """Return the decoded result: what the task returned, its exception, or a custom state's meta.

        Raises:
            djqueue.exceptions.ContentDisallowed: neither RESULT_ACCEPT_CONTENT nor ACCEPT_CONTENT lists it.
            djqueue.exceptions.DecodeError: the stored text is damaged.
        """
        body = self.result.encode() if isinstance(self.result, str) else self.result
        decoded = serialization.loads(body, self.content_type, self.content_encoding, accepted_contents())
        if self.status in states.EXCEPTION_STATES and decoded is not None:
            return exception_from_wire(decoded)
        return decoded

    def refused(self, why: BaseException) -> Document:
        """Return the document of a failure instead: the store does not take this one."""
        told = encode_exception(why)
        return replace(self, status=states.FAILURE, **told._asdict())

    def finished_at(self) -> datetime | None:
        """Return when the task ended, or None while it has not."""
        if self.date_done is None or self.status not in states.READY_STATES:
            return None
        return datetime.fromtimestamp(self.date_done, UTC)

    def as_meta(self) -> dict[str, Any]:
        """Return what Celery calls the task's meta, with the values decoded."""
        meta: dict[str, Any] = {
            "status": self.status,
            "result": self.value(),
            "traceback": self.traceback,
            "children": self.children,
            "date_done": self.finished_at(),
        }
        if self.group_id:
            meta["group_id"] = self.group_id
        if self.parent_id:
            meta["parent_id"] = self.parent_id
        if self.name is not None:
            for name in ("name", "args", "kwargs", "worker", "retries", "queue"):
                meta[name] = getattr(self, name)
        return meta | {"task_id": self.task_id}

    def pack(self) -> tuple[Any, ...]:
        """Return the document as a tuple of builtins, for the pipe between worker and children."""
        packed: tuple[Any, ...] = _pick(self)
        return packed

    @classmethod
    def unpack(cls, packed: tuple[Any, ...]) -> Document:
        """Return the document that `pack` made a tuple of."""
        return cls(*packed)


_pick = attrgetter(*(field.name for field in fields(Document)))
