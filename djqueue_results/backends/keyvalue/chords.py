"""Chords where values stand under keys and a number can be increased: counted as Celery's caches count them.

`chord-unlock-<group>` is how many parts have ended, beside the saved group; whoever makes it the size of the
header reads the documents of all parts. Celery's workers count along. A part that comes again must not be
counted again, so each leaves a mark of its own first; what a crash leaves unsure the documents decide.
"""

from __future__ import annotations

import json
import math
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from djqueue import exceptions, states
from djqueue.conf import settings
from djqueue.core.names import new_id
from djqueue.exceptions import BackendStoreError, ContentDisallowed, DecodeError
from djqueue.result.chords import ChordCount, ChordOpening, ChordPart
from djqueue.result.contract import CLAIMED
from djqueue.result.documents import Document, encode_exception
from djqueue_results.backends import lifetimes, meta
from djqueue_results.backends.keyvalue.contract import DocumentStore, KeyValueError, TooLarge

#: what a part's mark says: it is about to be counted, or it has been; its document follows if it has no other
BEGUN, COUNTED = b"begun ", b"counted "


class CountingStore(DocumentStore):
    """Keeps documents and groups, and counts chords."""

    counts_chords = True
    joins_documents = True

    def __init__(self, url: str = "", **options: Any) -> None:
        super().__init__(url, **options)
        self._token = f"djq:{new_id()}".encode()
        #: chord → when this process first found that it should be complete, by its own clock
        self._noticed: dict[str, float] = {}

    # -- what the place does -------------------------------------------------------------------------

    @abstractmethod
    def begin(self, key: str, seconds: int) -> None:
        """Put the number 0 under the key for so many seconds, unless a number is there."""

    @abstractmethod
    def increase(self, key: str, by: int) -> int | None:
        """Add to the number under the key, and nobody else meanwhile; return it, or None if there is none."""

    @abstractmethod
    def prolong(self, keys: Sequence[str], seconds: int) -> None:
        """Keep what stands under the keys for so many seconds from now; missing ones are fine."""

    # -- chords --------------------------------------------------------------------------------------

    def open_chords(self, openings: Sequence[ChordOpening]) -> None:
        """Keep each header as a group, and begin to count."""
        for one in openings:
            if one.added is not None:
                raise NotImplementedError(f"{self.as_uri()} cannot add to a chord that runs.")
            members = one.members or [[one.group_id, None], [[[name, None], None] for name in one.ids or ()]]
            group = json.dumps({"result": members}).encode()
            with self._counting(one.group_id):
                self._set(self._group_key(one.group_id), group, lifetimes.of_both())
                self.begin(self._chord_key(one.group_id), lifetimes.of_chords())

    def count_parts(self, parts: Sequence[ChordPart]) -> list[ChordCount]:
        """Count, chord by chord; the documents of the parts have been stored before."""
        by_group: dict[str, dict[str, ChordPart]] = {}
        for part in parts:
            by_group.setdefault(part.group_id, {})[part.task_id] = part
        counts: list[ChordCount] = []
        for group_id, some in by_group.items():
            with self._counting(group_id):
                members = self.restore_group(group_id)
                count = None if members is None else self._counted(group_id, members, some)
            if count is None:
                self._noticed.pop(group_id, None)
            else:
                counts.append(count)
        return counts

    def close_chords(self, group_ids: Sequence[str]) -> None:
        """Delete what was kept of the chords; the header first, by which parts that still come know it."""
        for group_id in group_ids:
            marks = [self._mark_key(group_id, name) for name in _leaves(self.restore_group(group_id))]
            keys = [self._group_key(group_id), self._chord_key(group_id), self._claim_key(group_id), *marks]
            self._delete(keys)
            self._noticed.pop(group_id, None)

    # -- inside --------------------------------------------------------------------------------------

    def _counted(self, group_id: str, members: Any, parts: Mapping[str, ChordPart]) -> ChordCount | None:
        """Count parts of one chord; None: some are missing."""
        size = _size(next(iter(parts.values())), members)
        ended = {name for name, one in self._documents(list(parts)).items() if _is_end(one)}
        numbers = [self._count(part, has_document=name in ended) for name, part in parts.items()]
        highest = max((number for number in numbers if number is not None), default=None)
        number = self.increase(self._chord_key(group_id), 0) if highest is None else highest
        # A mark that nobody finished may or may not have been counted; a counter that is gone says nothing.
        is_unsure = number is None or (None in numbers and self._is_any_begun(group_id, parts))
        if number is not None and number < size and not is_unsure:
            self._prolong(group_id, parts)
            return None
        ends = self._ends(group_id, members, is_said_to_be_complete=number is None or number >= size)
        is_ours = highest is not None and highest >= size
        if ends is None or not self._is_to_complete(group_id, is_ours=is_ours):
            return ChordCount(group_id, None)
        is_flat = all(inner is None for _, inner in members[1])
        return ChordCount(group_id, ends, None if is_flat else members)

    def _count(self, part: ChordPart, *, has_document: bool) -> int | None:
        """Count a part, unless it has a mark; return what the counter says then."""
        mark = self._mark_key(part.group_id, part.task_id)
        end = b"" if has_document else meta.write(part.document())
        try:
            is_new = self._add(mark, BEGUN + end, lifetimes.of_chords())
        except TooLarge as error:
            refusal = BackendStoreError(f"The result is too large for {self.as_uri()}: {error}")
            end = meta.write(part.document().refused(refusal))
            is_new = self._add(mark, BEGUN + end, lifetimes.of_chords())
        if not is_new:
            return None
        number = self.increase(self._chord_key(part.group_id), 1)
        self._set(mark, COUNTED + end, lifetimes.of_chords())
        return number

    def _is_any_begun(self, group_id: str, parts: Iterable[str]) -> bool:
        marks = self.read([self._mark_key(group_id, name) for name in parts])
        return any(mark.startswith(BEGUN) for mark in marks.values())

    def _ends(self, group_id: str, members: Any, *, is_said_to_be_complete: bool) -> list[ChordPart] | None:
        """Return the ends of all parts, or None while there are more to come.

        A part that the counter knows of and that has no document any more, because the place needed the room,
        counts as failed after RESULT_CHORD_JOIN_TIMEOUT.
        """
        leaves = list(_leaves(members))
        found = self._documents(leaves)
        open_ones = [name for name in leaves if not _is_end(found.get(name))]
        found.update(self._ends_in_marks(group_id, open_ones))
        if is_said_to_be_complete and self._has_waited_long(group_id):
            found.update({name: _lost(name, self.as_uri()) for name in open_ones if name not in found})
        documents = [found.get(name) for name in leaves]
        return [_part(group_id, one) for one in documents if one] if all(map(_is_end, documents)) else None

    def _documents(self, task_ids: Sequence[str]) -> dict[str, Document]:
        """Return the documents of parts; one that cannot be read has failed."""
        keys = {self._key(name): name for name in task_ids}
        found = {}
        for key, stored in self.read(list(keys)).items():
            name = keys[key]
            try:
                found[name] = meta.read(name, stored)
            except (ContentDisallowed, DecodeError) as error:
                found[name] = Document(name, states.FAILURE, *encode_exception(error))
        return found

    def _ends_in_marks(self, group_id: str, task_ids: Sequence[str]) -> dict[str, Document]:
        """Return the ends of parts that have no documents: nobody wanted their results, or they gave none."""
        keys = {self._mark_key(group_id, name): name for name in task_ids}
        marks = self.read(list(keys)) if keys else {}
        ends = {keys[key]: mark.partition(b" ")[2] for key, mark in marks.items()}
        return {name: meta.read(name, end) for name, end in ends.items() if end}

    def _has_waited_long(self, group_id: str) -> bool:
        patience = settings.RESULT_CHORD_JOIN_TIMEOUT
        return patience is not None and self._seconds_since_noticed(group_id) >= patience

    def _is_to_complete(self, group_id: str, *, is_ours: bool) -> bool:
        """Return whether this process completes the chord: the one that counted the last part, if it lives.

        That may be a stock worker, which leaves no claim but deletes the header when it is through.
        """
        claim = self._claim_key(group_id)
        holder = self.read([claim]).get(claim)
        if holder is None and (is_ours or self._seconds_since_noticed(group_id) >= CLAIMED):
            return self._add(claim, self._token, math.ceil(CLAIMED))
        return holder == self._token

    def _seconds_since_noticed(self, group_id: str) -> float:
        now = time.monotonic()
        return now - self._noticed.setdefault(group_id, now)

    def _prolong(self, group_id: str, parts: Mapping[str, ChordPart]) -> None:
        """Let everything live as long again as the chord may take until its next part."""
        self.prolong([self._chord_key(group_id)], lifetimes.of_chords())
        kept = [self._group_key(group_id)]
        if settings.RESULT_CHORD_EXPIRES is not None:  # else the documents have just been given as long
            kept += map(self._key, parts)
        self.prolong(kept, lifetimes.of_both())

    def _set(self, key: str, value: bytes, seconds: int) -> None:
        self.change(key, lambda kept: value, seconds)

    def _add(self, key: str, value: bytes, seconds: int) -> bool:
        """Put the value there if nothing is, and return whether that was so."""
        is_free = False

        def decide(kept: bytes | None) -> bytes | None:
            nonlocal is_free
            is_free = kept is None
            return value if is_free else None

        self.change(key, decide, seconds)
        return is_free

    @contextmanager
    def _counting(self, group_id: str) -> Iterator[None]:
        try:
            yield
        except KeyValueError as error:
            raise BackendStoreError(
                f"A part of the chord {group_id} could not be counted in {self.as_uri()}: {error}",
                task_id=group_id,
            ) from error

    def _chord_key(self, group_id: str) -> str:
        return f"{self._chord_prefix}{self.named(group_id)}"

    def _mark_key(self, group_id: str, task_id: str) -> str:
        return f"{self._chord_prefix}{self.named(f'{group_id}.{task_id}')}"

    def _claim_key(self, group_id: str) -> str:
        return f"{self._chord_prefix}{self.named(f'{group_id}:claim')}"


def _size(part: ChordPart, members: Any) -> int:
    """Return how many ends make the chord complete: as the part's message says, or as there are tasks."""
    told = part.body.get("chord_size") if isinstance(part.body, Mapping) else None
    return told if isinstance(told, int) else sum(1 for _ in _leaves(members))


def _leaves(members: Any) -> Iterator[str]:
    """Yield the ids of the tasks in a saved group."""
    if members is None:
        return
    head, inner = members
    if inner is None:
        yield head if isinstance(head, str) else head[0]
    else:
        for member in inner:
            yield from _leaves(member)


def _is_end(document: Document | None) -> bool:
    return document is not None and document.status in states.READY_STATES


def _part(group_id: str, document: Document) -> ChordPart:
    encoded = document.result, document.content_type, document.content_encoding
    return ChordPart(group_id, document.task_id, None, document.status, *encoded)


def _lost(task_id: str, place: str) -> Document:
    why = exceptions.TimeoutError(f"The result of task {task_id} is not in {place} any more.")
    return Document(task_id, states.FAILURE, *encode_exception(why))
