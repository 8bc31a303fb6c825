"""Waking sleeping receivers: a datagram for everyone who listens in the directory beside the database file.

Whoever committed messages rings with the names of their queues; a receiver that consumes one of them looks
at once instead of at its next round. A ring that is lost costs that second, never a message.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from djqueue.messaging.commits import Joint, join

SUFFIX = ".bell"
#: addresses of UNIX sockets may be this long, bytes
_LONGEST_ADDRESS = 100
_LONGEST_RING = 4096


class Doorbell:
    """The receiving end. `fileno` is ready to be read when somebody rang."""

    def __init__(self, directory: Path, name: str) -> None:
        self.path = directory / f"{name}{SUFFIX}"
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Listen.

        Raises:
            OSError: sockets cannot be used in that directory.
        """
        self.close()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.setblocking(False)
        try:
            with _Directory(self.path.parent) as directory:
                listener.bind(directory.address(self.path.name))
        except BaseException:
            listener.close()
            raise
        self._socket = listener

    def fileno(self) -> int:
        """Return the file to watch, -1 when nobody listens."""
        return self._socket.fileno() if self._socket else -1

    def rang_for(self, queues: Iterable[str]) -> bool:
        """Take all rings, and return whether one was for any of `queues`."""
        heard = False
        while self._socket is not None:
            try:
                ring = self._socket.recv(_LONGEST_RING)
            except OSError:
                break
            names = ring.decode(errors="replace").split("\0")
            heard = heard or not ring or not set(queues).isdisjoint(names)
        return heard

    def close(self) -> None:
        """Stop listening. May be called twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.path.unlink(missing_ok=True)

    def forget(self) -> None:
        """Close this process's copy; the one that forked it goes on listening."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def ring(path: Path, queues: Iterable[str]) -> None:
    """Wake those who listen in the directory `path`; that nobody does, or that they are busy, is fine."""
    try:
        names = [name for name in os.listdir(path) if name.endswith(SUFFIX)]
    except OSError:
        return
    if not names:
        return
    message = "\0".join(queues).encode()
    if len(message) > _LONGEST_RING:
        message = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, _Directory(path) as directory:
        sender.setblocking(False)
        for name in names:
            try:
                sender.sendto(message, directory.address(name))
            except OSError:  # nobody is behind it any more, or its box is full and it wakes anyway
                continue


class Ring(Joint):
    """A ring that waits for the commit of what it announces."""

    def __init__(self, path: Path) -> None:
        self.queues: set[str] = set()
        self._path = path

    def __call__(self) -> None:
        """Ring."""
        ring(self._path, self.queues)


def announce(connection: Any, path: Path | None, queues: Iterable[str]) -> None:
    """Wake the receivers of `queues` when what was written on `connection` is committed.

    Without a directory, or when a transaction is open that Django does not manage, they find it themselves.
    """
    if path is None:
        return
    if connection.in_atomic_block:
        join(connection, Ring, lambda: Ring(path)).queues.update(queues)
    elif connection.get_autocommit():
        ring(path, queues)


class _Directory:
    """Makes addresses in a directory, however long its path is: by way of an open descriptor if need be."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> _Directory:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def address(self, name: str) -> str:
        """Return an address of the socket `name`."""
        direct = f"{self._path}/{name}"
        if len(os.fsencode(direct)) <= _LONGEST_ADDRESS:
            return direct
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        through = f"/proc/self/fd/{self._descriptor}/{name}"
        if len(os.fsencode(through)) > _LONGEST_ADDRESS:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), direct)
        return through
