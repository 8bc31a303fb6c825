"""Groups and chords in Redis, under the keys of Celery 5.7 and by its rules, so that both count together.

Beside `celery-taskset-meta-<group>` there are `.s` with the size of the chord, `.t` with how many parts were
added, `.j` with the ends, `.d` with which those are, and `.c` with who completes it, or `done`. Only
`.djq`, the parts that were added, is ours.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import Any

from djqueue import states
from djqueue.conf import settings
from djqueue.core import serialization
from djqueue.core.names import new_id
from djqueue.exceptions import (
    BackendGetMetaError,
    BackendStoreError,
    ContentDisallowed,
    DecodeError,
    OperationalError,
)
from djqueue.messaging.transports.redis.connections import Server
from djqueue.messaging.transports.redis.scripts import Script
from djqueue.result.chords import ChordCount, ChordOpening, ChordPart
from djqueue.result.contract import CLAIMED, GroupStore
from djqueue.result.documents import encode_exception
from djqueue_results.backends import lifetimes, meta

#: how long it is remembered that a chord is done, seconds
DONE_KEPT = 300

_HERE = Path(__file__).parent
_COUNT = Script.read(_HERE / "redis_chord_count.lua")
_ADD = Script.read(_HERE / "redis_chord_add.lua")
_CLOSE = Script.read(_HERE / "redis_chord_close.lua")


class RedisGroups(GroupStore):
    """The part of the Redis store that has to do with groups and chords.

    `prefix` is what all keys begin with; with `in_order` results come in the order of the header.
    """

    counts_chords = True

    def __init__(self, server: Server, prefix: str, *, in_order: bool = True) -> None:
        self._server = server
        self._group_prefix = f"{prefix}celery-taskset-meta-"
        self._in_order = int(in_order)
        self._token = f"djq:{new_id()}"

    def save_group(self, group_id: str, members: Any) -> None:
        """Keep the group under Celery's key."""
        seconds = lifetimes.of_results()
        with self._writing("the group", group_id):
            self._server.call(*_set(self._group_key(group_id), _written({"result": members}), seconds))

    def restore_group(self, group_id: str) -> Any:
        """Return the group, kept by us or by Celery, or None."""
        try:
            stored = self._server.call("GET", self._group_key(group_id))
        except OperationalError as error:
            raise BackendGetMetaError(
                f"The group {group_id} could not be read from {self.as_uri()}: {error}", task_id=group_id
            ) from error
        return _members(stored)

    def delete_group(self, group_id: str) -> None:
        """Forget the group."""
        self._server.call("DEL", self._group_key(group_id))

    def open_chords(self, openings: Sequence[ChordOpening]) -> None:
        """Write sizes, shapes that have to be kept, and how many parts were added."""
        seconds = lifetimes.of_chords()
        commands: list[Sequence[Any]] = []
        key = self._group_key
        for one in openings:
            if one.added is not None:
                continue
            commands += (("DEL", key(one.group_id, ".c")), _set(key(one.group_id, ".s"), one.size, seconds))
            if one.members is not None:
                commands.append(_set(key(one.group_id), _written({"result": one.members}), seconds))
        with self._writing("a chord", openings[0].group_id):
            if commands:
                self._server.pipeline(commands)
            for one in openings:
                if one.added is not None:
                    keys = [self._group_key(one.group_id, ".t"), self._group_key(one.group_id, ".djq")]
                    self._server.run(_ADD, keys, [one.added, seconds])

    def count_parts(self, parts: Sequence[ChordPart]) -> list[ChordCount]:
        """Count, chord by chord."""
        by_group: dict[str, list[ChordPart]] = {}
        for part in parts:
            by_group.setdefault(part.group_id, []).append(part)
        counts = (self._counted(group_id, some) for group_id, some in by_group.items())
        return [count for count in counts if count is not None]

    def close_chords(self, group_ids: Sequence[str]) -> None:
        """Delete what was kept of the chords, and remember that they are done."""
        for group_id in group_ids:
            keys = [self._group_key(group_id, end) for end in (".c", ".j", ".t", ".s", ".d", ".djq")]
            with self._writing("a chord", group_id):
                self._server.run(_CLOSE, keys, [self._token, DONE_KEPT])

    def _counted(self, group_id: str, parts: Sequence[ChordPart]) -> ChordCount | None:
        keys = [self._group_key(group_id, end) for end in (".j", ".t", ".s", ".d", "", ".c")]
        seconds = lifetimes.of_chords()
        arguments = [self._in_order, seconds, lifetimes.of_both(), math.ceil(CLAIMED), self._token]
        for part in parts:
            arguments += (part.key, part.key.rpartition(":")[2], _end(part))
        with self._writing("a part of the chord", group_id):
            said, *rest = self._server.run(_COUNT, keys, arguments)
        if said == b"held":
            return ChordCount(group_id, None)
        if said != b"ours":
            return None
        saved, ends = rest
        return ChordCount(group_id, [_part(group_id, end) for end in ends], _members(saved or None))

    def _group_key(self, group_id: str, end: str = "") -> bytes:
        return f"{self._group_prefix}{group_id}{end}".encode("utf-8", "surrogatepass")

    @contextmanager
    def _writing(self, what: str, group_id: str) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            raise BackendStoreError(
                f"{what.capitalize()} {group_id} could not be written to {self.as_uri()}: {error}",
                task_id=group_id,
            ) from error


def _set(key: bytes, value: Any, seconds: int) -> Sequence[Any]:
    return ("SET", key, value, "EX", seconds) if seconds else ("SET", key, value)


def _written(content: Any) -> bytes:
    return meta.compressed(serialization.dumps(content, settings.RESULT_SERIALIZER)[2])


def _members(stored: bytes | None) -> Any:
    """Return what a saved group says; its shape is one for `result_from_tuple`."""
    if stored is None:
        return None
    found = meta.loads(stored)
    return found.get("result") if isinstance(found, dict) else None


def _end(part: ChordPart) -> bytes:
    """Return an end as Celery writes it: `[1, id, state, result]`."""
    if part.content_type == serialization.JSON_TYPE and isinstance(part.result, str):
        end = f"[1, {quoted(part.task_id)}, {quoted(part.state)}, {part.result}]".encode(errors="replace")
        return meta.compressed(end)
    value = meta.value_of(part.document())
    return _written([1, part.task_id, part.state, value])


def _part(group_id: str, stored: bytes) -> ChordPart:
    """Return the part that an end tells of, ours or Celery's; one that cannot be read has failed."""
    try:
        _, task_id, state, result = meta.loads(stored)
    except (ContentDisallowed, DecodeError, TypeError, ValueError) as error:
        damaged = DecodeError(f"A part of the chord {group_id} cannot be read: {error}")
        return ChordPart(group_id, "unknown", None, states.FAILURE, *encode_exception(damaged))
    if stored.startswith(b"["):
        return ChordPart(group_id, task_id, None, state, json.dumps(result), serialization.JSON_TYPE, "utf-8")
    content_type, encoding, body = serialization.dumps(meta.wired(result), settings.RESULT_SERIALIZER)
    return ChordPart(group_id, task_id, None, state, body, content_type, encoding)
