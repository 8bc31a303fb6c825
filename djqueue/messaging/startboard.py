"""Which job each child is running, in memory that outlives every process of the worker.

Each child owns one slot of a shared memory map and writes the job's number, tag and starting time there
before it enters user code: no system call, no message. The parent reads it for time limits, STARTED and
for counting starts when a child dies. When the map is a file, a survivor on the same host reads which
messages a dead worker had started, so that only those count towards TASK_MAX_DELIVERIES.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path

_SLOT = struct.Struct("<Qd112s")  # number, CLOCK_MONOTONIC seconds, tag
_NUMBER = struct.Struct("<Q")


@dataclass(slots=True, frozen=True)
class Started:
    """What one child is running: the job's number, its delivery tag, and since when (monotonic seconds)."""

    number: int
    since: float
    tag: str


class StartBoard:
    """A row of slots, one per child. Written by the child that owns the slot, read by anyone."""

    def __init__(self, memory: mmap.mmap, path: Path | None) -> None:
        self._memory = memory
        self.path = path
        self.slots = len(memory) // _SLOT.size

    @classmethod
    def create(cls, path: Path | None, slots: int) -> StartBoard:
        """Make an empty board of `slots` slots, in the file `path` or in anonymous shared memory."""
        size = slots * _SLOT.size
        if path is None:
            return cls(mmap.mmap(-1, size), None)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, size)
            return cls(mmap.mmap(descriptor, size), path)
        finally:
            os.close(descriptor)

    def start(self, slot: int, number: int, tag: bytes, since: float) -> None:
        """Write that the child of `slot` enters user code of job `number` (> 0) now."""
        _SLOT.pack_into(self._memory, slot * _SLOT.size, number, since, tag)

    def finish(self, slot: int) -> None:
        """Write that the child of `slot` runs nothing."""
        _NUMBER.pack_into(self._memory, slot * _SLOT.size, 0)

    def read(self, slot: int) -> Started | None:
        """Return what the child of `slot` runs, or None."""
        number, since, tag = _SLOT.unpack_from(self._memory, slot * _SLOT.size)
        return Started(number, since, tag.rstrip(b"\0").decode(errors="replace")) if number else None

    def close(self) -> None:
        """Release the memory; the file, if any, stays."""
        self._memory.close()


def read_started_tags(path: Path) -> list[str]:
    """Return the tags of the jobs that were running when the board in `path` was last written."""
    content = path.read_bytes()
    whole = len(content) - len(content) % _SLOT.size
    return [
        tag.rstrip(b"\0").decode(errors="replace")
        for number, _, tag in _SLOT.iter_unpack(content[:whole])
        if number
    ]
