"""A chord as result stores see it: how many parts there are, each part's end, and what is known at the end.

Senders open a chord with its size; workers have each end of a part counted; whoever's part was the last is
given all of them and sends the body. Values stay encoded until then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from djqueue.result.documents import Document


@dataclass(slots=True)
class ChordOpening:
    """A chord that is about to be sent: its header's group and how many ends make it complete.

    `members` is the header as `GroupResult.as_tuple` writes it, where results are to come in its shape;
    None when the header is flat, and their order says everything. `ids` are those of the tasks. With
    `added`, the id of a task that is added to a chord that runs, it is waited for as well, however often
    that is said; `size` means nothing then.
    """

    group_id: str
    size: int
    members: Any = None
    ids: list[str] | None = None
    added: str | None = None

    def pack(self) -> tuple[Any, ...]:
        """Return the opening as a tuple of builtins, for the pipe between worker and children."""
        return self.group_id, self.size, self.members, self.ids, self.added


@dataclass(slots=True)
class ChordPart:
    """The end of one task of a chord's header.

    `index` is its place in the header. The result is encoded as in a `Document`; `state` says whether it is
    an exception. `body` is the signature of the chord's body, as the task's message had it; `queue` is where
    that came from.
    """

    group_id: str
    task_id: str
    index: int | None
    state: str
    result: str | bytes
    content_type: str
    content_encoding: str
    body: Any = None
    root_id: str | None = None
    queue: str | None = None

    @property
    def key(self) -> str:
        """What the part is told from others by: counted twice under one key, it counts once."""
        return f"{self.task_id}:{'+inf' if self.index is None else self.index}"

    def document(self) -> Document:
        """Return what there is to read of the result, as a document."""
        return Document(self.task_id, self.state, self.result, self.content_type, self.content_encoding)

    def value(self) -> Any:
        """Return the decoded result, or the exception. Raises as `Document.value` does."""
        return self.document().value()

    def pack(self) -> tuple[Any, ...]:
        """Return the part as a tuple of builtins."""
        packed: tuple[Any, ...] = _pick(self)
        return packed


_pick = attrgetter(*(field.name for field in fields(ChordPart)))


@dataclass(slots=True)
class ChordCount:
    """What counting said of a chord to which nothing is missing.

    `parts` are all of its ends in header order; None when another worker has them and is sending the body:
    it may die before it has, so the part that was counted must not be forgotten yet. `members` is what the
    opening had.
    """

    group_id: str
    parts: list[ChordPart] | None
    members: Any = None


def arranged(parts: Sequence[ChordPart], members: Any) -> list[Any]:
    """Return the values of the parts in header order, or in the shape of `members`.

    Values that `members` does not know of, of tasks that were added while the chord ran, come last.
    """
    if members is None:
        return [part.value() for part in parts]
    values = {part.task_id: part.value() for part in parts}
    shaped: list[Any] = [_shaped(member, values) for member in members[1]]
    return [*shaped, *values.values()]


def _shaped(member: Any, values: dict[str, Any]) -> Any:
    """Take the values of one member, a task or a group, out of `values`."""
    head, inner = member
    if inner is not None:
        return [_shaped(one, values) for one in inner]
    return values.pop(head if isinstance(head, str) else head[0], None)
