"""Groups and chords in the project's database: rows of `GroupResult`, `ChordCounter` and `ChordPart`.

Whoever counts locks the chord's row first, so ends are noted one after the other, each once, and exactly one
process is given a chord that is complete. A chord that is closed has no row any more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

from django.db import Error, connections, transaction
from django.db.models import F

from djqueue.core.names import new_id
from djqueue.core.writing import put
from djqueue.exceptions import BackendStoreError
from djqueue.result.chords import ChordCount, ChordOpening, ChordPart
from djqueue.result.contract import CLAIMED, GroupStore
from djqueue_results import models
from djqueue_results.rows import from_text, stored_id, to_text

T = TypeVar("T")

#: ids in one statement
MOST_IDS = 500
#: where a part stands that has no place in the header
LAST = 2**31 - 1


class DatabaseGroups(GroupStore):
    """The part of the ORM store that has to do with groups and chords."""

    counts_chords = True
    transactional_alias: str

    def __init__(self) -> None:
        self._token = new_id()

    def save_group(self, group_id: str, members: Any) -> None:
        """Write the group's row; in the transaction that is open, if any."""
        with self._writing("The group", group_id):
            key = {"group_id": stored_id(group_id)}
            put(self._rows(models.GroupResult), key, {"result": json.dumps(members)})

    def restore_group(self, group_id: str) -> Any:
        """Return the group, or None."""
        row = self._rows(models.GroupResult).filter(group_id=stored_id(group_id)).first()
        return None if row is None or row.result is None else json.loads(row.result)

    def delete_group(self, group_id: str) -> None:
        """Delete the group's row."""
        self._rows(models.GroupResult).filter(group_id=stored_id(group_id)).delete()

    def open_chords(self, openings: Sequence[ChordOpening]) -> None:
        """Write a row for each chord; one that is there already stays as it is."""
        new = [
            models.ChordCounter(
                group_id=stored_id(one.group_id),
                sub_tasks=json.dumps(_described(one)),
                count=one.size,
                is_shaped=one.members is not None,
            )
            for one in openings
            if one.added is None
        ]
        added = [one for one in openings if one.added is not None]

        def write() -> None:
            with transaction.atomic(self.transactional_alias, savepoint=False):
                self._rows(models.ChordCounter).bulk_create(new, ignore_conflicts=True)
                for one in added:
                    self._add(stored_id(one.group_id), f"added:{one.added}")

        with self._writing("The chord", openings[0].group_id):
            self._repeated(write)

    def count_parts(self, parts: Sequence[ChordPart]) -> list[ChordCount]:
        """Note the parts and count, in one transaction."""
        if not parts:
            return []
        by_group: dict[str, dict[str, ChordPart]] = {}
        for part in parts:
            by_group.setdefault(part.group_id, {})[_key(part)] = part
        asked = {stored_id(group_id): group_id for group_id in sorted(by_group)}

        def count() -> list[ChordCount]:
            with transaction.atomic(self.transactional_alias, savepoint=False):
                found = []
                for kept, counter in self._locked(list(asked)).items():
                    group_id = asked[kept]
                    self._note(counter, by_group[group_id])
                    if counter.count <= 0:
                        found.append(self._claimed(counter, group_id))
                return found

        with self._writing("A part of the chord", parts[0].group_id):
            return self._repeated(count)

    def close_chords(self, group_ids: Sequence[str]) -> None:
        """Delete the chords' rows."""
        kept = [stored_id(group_id) for group_id in group_ids]
        with self._writing("The chord", group_ids[0]), transaction.atomic(self.transactional_alias):
            self._forget(kept)

    def clean_up_groups(self, oldest: datetime) -> int:
        """Delete groups and chords that are older; return how many those were."""
        old = self._rows(models.ChordCounter).filter(date_created__lt=oldest)
        chords = list(old.values_list("group_id", flat=True))
        for start in range(0, len(chords), MOST_IDS):
            self._forget(chords[start : start + MOST_IDS])
        groups, _ = self._rows(models.GroupResult).filter(date_created__lt=oldest).delete()
        return groups + len(chords)

    # -- inside --------------------------------------------------------------------------------------

    def _locked(self, group_ids: list[str]) -> dict[str, models.ChordCounter]:
        """Return the rows of the chords that run; nobody else changes them before the transaction ends."""
        rows = self._rows(models.ChordCounter).filter(group_id__in=group_ids)
        if not rows.update(count=F("count")):  # the lock that every database has
            return {}
        return {row.group_id: row for row in rows.defer("sub_tasks").order_by("group_id")}

    def _note(self, counter: models.ChordCounter, parts: dict[str, ChordPart]) -> None:
        """Write the parts that were not written before, and count them."""
        known = self._rows(models.ChordPart).filter(group_id=counter.group_id, key__in=list(parts))
        for key in known.values_list("key", flat=True):
            parts.pop(key, None)
        if not parts:
            return
        new = [_row(counter.group_id, key, part) for key, part in parts.items()]
        self._rows(models.ChordPart).bulk_create(new, batch_size=MOST_IDS // 4)
        counter.count -= len(new)
        self._rows(models.ChordCounter).filter(pk=counter.pk).update(count=counter.count)

    def _claimed(self, counter: models.ChordCounter, group_id: str) -> ChordCount:
        """Give the complete chord to this process, unless another one has it."""
        now = time.time()
        if counter.claimed_by not in ("", self._token) and counter.claimed_until > now:
            return ChordCount(group_id, None)
        row = self._rows(models.ChordCounter).filter(pk=counter.pk)
        row.update(claimed_by=self._token, claimed_until=now + CLAIMED)
        ends = self._rows(models.ChordPart).filter(group_id=counter.group_id).exclude(status="")
        parts = [_part(group_id, end) for end in ends.order_by("place", "pk")]
        members = json.loads(row.values_list("sub_tasks", flat=True)[0]) if counter.is_shaped else None
        return ChordCount(group_id, parts, members)

    def _add(self, group_id: str, key: str) -> None:
        """Let the chord wait for one more, unless that was said before."""
        for counter in self._locked([group_id]).values():
            markers = self._rows(models.ChordPart).filter(group_id=group_id, key=key)
            if not markers.exists():
                self._rows(models.ChordPart).create(group_id=group_id, key=key)
                self._rows(models.ChordCounter).filter(pk=counter.pk).update(count=F("count") + 1)

    def _forget(self, group_ids: Iterable[str]) -> None:
        self._rows(models.ChordPart).filter(group_id__in=group_ids).delete()
        self._rows(models.ChordCounter).filter(group_id__in=group_ids).delete()

    def _rows(self, model: Any) -> Any:
        return model.objects.using(self.transactional_alias)

    def _repeated(self, work: Callable[[], T]) -> T:
        """Do the work, again after a deadlock; the store knows how often."""
        return self._try(connections[self.transactional_alias], work)  # type: ignore[attr-defined]

    @contextmanager
    def _writing(self, what: str, group_id: str) -> Iterator[None]:
        try:
            yield
        except Error as error:
            raise BackendStoreError(
                f"{what} {group_id} could not be written to the database {self.transactional_alias!r}: "
                f"{error}",
                task_id=group_id,
            ) from error


def _described(opening: ChordOpening) -> Any:
    if opening.members is not None:
        return opening.members
    return [[[task_id, None], None] for task_id in opening.ids or ()]


def _key(part: ChordPart) -> str:
    return f"{stored_id(part.task_id)}:{part.key.rpartition(':')[2]}"


def _row(group_id: str, key: str, part: ChordPart) -> models.ChordPart:
    text, encoding = to_text(part.result, part.content_encoding)
    place = LAST if part.index is None else max(min(part.index, LAST), -LAST)
    return models.ChordPart(
        group_id=group_id,
        key=key,
        place=place,
        task_id=stored_id(part.task_id),
        status=part.state,
        content_type=part.content_type,
        content_encoding=encoding,
        result=text,
    )


def _part(group_id: str, row: models.ChordPart) -> ChordPart:
    result, encoding = from_text(row.result, row.content_encoding)
    return ChordPart(group_id, row.task_id, row.place, row.status, result, row.content_type, encoding)
