"""Who is alive: each claimer holds a lock on a file of its own, and the system lets go of it when it dies.

No clock is involved: a worker that sleeps or is stopped keeps its lock, one that was killed loses it at once,
whatever way it went. The file of a worker is also its start board, so whoever finds it without its owner
knows which messages had been started.
"""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote, unquote

from djqueue.exceptions import OperationalError
from djqueue.messaging.startboard import read_started_tags

SUFFIX = ".board"
#: a worker makes its file, forks its children and only then locks it; nobody clears it away before, seconds
TIME_TO_LOCK = 600.0
#: the mode of a file that its owner has locked; until then it is not executable
_LOCKED_ONCE = 0o700
#: others hold a file only while they look whether its owner is gone, seconds
_LONGEST_LOOK = 5.0


def file_name(claimer: str) -> str:
    """Return the claimer's name as a file name."""
    return quote(claimer, safe="@ ")


def path_of(directory: Path, claimer: str) -> Path:
    """Return the file of that claimer."""
    return directory / f"{file_name(claimer)}{SUFFIX}"


class LifeLine:
    """This process's own lock. A child that is forked later lets go of it at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        # A copy in a child would keep a dead parent alive. The hook stays for ever, so it holds nothing.
        os.register_at_fork(after_in_child=partial(_forget, weakref.ref(self)))

    @property
    def is_held(self) -> bool:
        """Whether the lock is held and the file is where others look for it."""
        return self._descriptor >= 0 and _is_at(self._descriptor, self.path)

    def take(self) -> None:
        """Lock the file, which is made if need be. Holding it already is fine.

        Raises:
            djqueue.exceptions.OperationalError: another process holds it.
        """
        if self.is_held:
            return
        self.forget()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        deadline = time.monotonic() + _LONGEST_LOOK
        while not self._try_to_take():
            if time.monotonic() > deadline:
                raise OperationalError(f"{self.path} is locked: another process uses this worker's name.")
            time.sleep(0.01)

    def leave(self) -> None:
        """Let go and remove the file. May be called twice."""
        if self.is_held:
            self.path.unlink(missing_ok=True)
        self.forget()

    def forget(self) -> None:
        """Close this process's descriptor; after a fork the lock stays with the parent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _try_to_take(self) -> bool:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if _lock(descriptor) and _is_at(descriptor, self.path):
            os.fchmod(descriptor, _LOCKED_ONCE)
            self._descriptor = descriptor
            return True
        os.close(descriptor)
        return False


class Remains:
    """The file of a claimer that is gone. The lock is held while it is looked at."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.claimer = unquote(path.name.removesuffix(SUFFIX))
        self._descriptor = descriptor

    def started_tags(self) -> list[str]:
        """Return the tags of the deliveries that were being run when the claimer died."""
        try:
            return read_started_tags(self.path)
        except OSError:
            return []

    @property
    def may_be_unborn(self) -> bool:
        """Whether the owner of the file may be about to lock it for the first time."""
        status = os.fstat(self._descriptor)
        return status.st_mode & 0o777 != _LOCKED_ONCE and time.time() - status.st_mtime < TIME_TO_LOCK

    def clear(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


def _forget(lifeline: weakref.ref[LifeLine]) -> None:
    known = lifeline()
    if known is not None:
        known.forget()


def remains(directory: Path, own: Path) -> Iterator[Remains]:
    """Yield what the dead left in `directory`; nobody else gets the same one while it is being dealt with."""
    for name in _files(directory):
        path = directory / name
        if path == own:
            continue
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            if _lock(descriptor) and _is_at(descriptor, path):
                yield Remains(path, descriptor)
        finally:
            os.close(descriptor)


def claimers(directory: Path) -> set[str]:
    """Return the names of all claimers that have a file, dead or alive."""
    return {unquote(name.removesuffix(SUFFIX)) for name in _files(directory)}


def is_alive(directory: Path, claimer: str) -> bool:
    """Return whether the claimer holds its lock."""
    try:
        descriptor = os.open(path_of(directory, claimer), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _lock(descriptor)
    finally:
        os.close(descriptor)


def _files(directory: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if name.endswith(SUFFIX))
    except OSError:
        return []


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether `path` is still the file that is open: it may have been removed or made anew."""
    try:
        there, here = os.stat(path), os.fstat(descriptor)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
