"""The nursery: one single-threaded process that forks the children, and the parent's end of the line to it.

`Nursery` (in the parent) asks for children and for signals to be sent to them; `_Nurse` (in the nursery)
forks, signals and reaps. It is forked before the parent opens a connection or starts a thread, so children
inherit neither. Only who reaps a child signals it: a process number can never be someone else's by then.
"""

from __future__ import annotations

import array
import gc
import json
import os
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from billiard import get_context
from billiard.process import BaseProcess

from djqueue.core.registry import load_module
from djqueue.worker import log_lines
from djqueue.worker.pools.prefork.childhood import die_with_parent

# Parent to nursery: SPAWN slot, SIGNAL pid signum, LOAD length reload (names follow, as JSON). Nursery to
# parent: BORN slot pid (with the parent's end of the child's socket pair), FAILED slot errno, EXITED pid
# status.
_RECORD = struct.Struct("<cii")
_SPAWN, _SIGNAL, _LOAD, _BORN, _FAILED, _EXITED = b"s", b"k", b"l", b"b", b"f", b"e"

#: signals that are for the parent only, even when they are sent to the whole group
_FOR_THE_PARENT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)

#: `raise_child(slot, socket)`: live a child's life and return the exit status
RaiseChild = Callable[[int, socket.socket], int]

_fork = get_context("fork")


@dataclass(slots=True)
class Born:
    """A child was forked; `sock` is the parent's end of the line to it."""

    slot: int
    pid: int
    sock: socket.socket


@dataclass(slots=True)
class NotBorn:
    """A child could not be forked."""

    slot: int
    why: str


@dataclass(slots=True)
class Exited:
    """A child ended: a status of 0 or more, or the negative number of the signal that killed it."""

    pid: int
    status: int


News = Born | NotBorn | Exited


class Nursery:
    """The parent's end. Used by the thread that started it only; it must live as long as the pool."""

    def __init__(self, raise_child: RaiseChild) -> None:
        self._raise_child = raise_child
        self._process: BaseProcess | None = None
        self._sock: socket.socket | None = None
        self._unsent: list[bytes] = []
        #: the nursery hung up
        self.is_lost = False

    def start(self) -> None:
        """Fork the nursery."""
        ours, theirs = socket.socketpair()
        self._process = _fork.Process(
            target=_be_nurse, args=(theirs, ours, self._raise_child, os.getpid()), name="djqueue-nursery"
        )
        # What exists now is shared by all processes; a garbage collection in one must not copy its pages.
        gc.collect()
        gc.freeze()
        # Between the fork and the nursery's own signal settings, a signal must not meet the parent's.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_PARENT)
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        ours.setblocking(False)
        self._sock = ours

    @property
    def pid(self) -> int | None:
        """The nursery's process number."""
        return self._process.pid if self._process else None

    def fileno(self) -> int:
        """Return the file that becomes readable when there is news."""
        assert self._sock is not None
        return self._sock.fileno()

    def spawn(self, slot: int) -> None:
        """Ask for a child; `Born` or `NotBorn` answers."""
        self._send(_RECORD.pack(_SPAWN, slot, 0))

    def signal(self, pid: int, signum: int) -> None:
        """Ask for a signal to be sent to a child; SIGKILL goes to everything in its process group."""
        self._send(_RECORD.pack(_SIGNAL, pid, signum))

    def load(self, modules: Sequence[str], *, reload: bool) -> None:
        """Have the nursery import the modules, perhaps again, for the children it forks from now on."""
        names = json.dumps(list(modules)).encode()
        self._send(_RECORD.pack(_LOAD, len(names), int(reload)) + names)

    def news(self) -> Iterator[News]:
        """Return what the nursery said since the last call; never blocks."""
        if self._sock is None:
            return
        self._flush()
        while not self.is_lost:
            descriptors = array.array("i")
            try:
                # One record at a time: a descriptor belongs to the record it came with.
                data, ancillary, _, _ = self._sock.recvmsg(_RECORD.size, socket.CMSG_SPACE(4))
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data, ancillary = b"", []
            for _, _, content in ancillary:
                descriptors.frombytes(content[: len(content) - len(content) % 4])
            if len(data) < _RECORD.size:
                self.is_lost = True
                return
            yield from self._read(data, list(descriptors))

    def close(self, within: float) -> None:
        """End the nursery, which ends its children first; may be called twice."""
        process, self._process = self._process, None
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()  # the nursery reads the end of the line
        if process is None:
            return
        process.join(within)
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()

    def _read(self, record: bytes, descriptors: list[int]) -> Iterator[News]:
        kind, first, second = _RECORD.unpack(record)
        if kind == _EXITED:
            yield Exited(first, second)
        elif kind == _FAILED:
            yield NotBorn(first, os.strerror(second))
        elif descriptors:
            os.set_inheritable(descriptors[0], False)
            yield Born(first, second, socket.socket(fileno=descriptors[0]))
        else:  # no descriptor was free in this process to receive it with
            self.signal(second, signal.SIGKILL)
            yield NotBorn(first, "this process has too many open files")

    def _send(self, record: bytes) -> None:
        self._unsent.append(record)
        self._flush()

    def _flush(self) -> None:
        # Records are tiny and few: a socket that takes none means a stopped nursery, and they wait here.
        while self._unsent and self._sock is not None:
            record = self._unsent[0]
            try:
                sent = self._sock.send(record)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self.is_lost = True
                return
            if sent < len(record):
                self._unsent[0] = record[sent:]
            else:
                del self._unsent[0]


def _be_nurse(sock: socket.socket, parents_end: socket.socket, raise_child: RaiseChild, parent: int) -> None:
    """Live the nursery's life, in the process forked for it."""
    for signum in _FOR_THE_PARENT:
        signal.signal(signum, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    parents_end.close()
    die_with_parent(parent)
    _Nurse(sock, raise_child).run()


class _Nurse:
    """Forks, signals and reaps, until the parent hangs up."""

    def __init__(self, sock: socket.socket, raise_child: RaiseChild) -> None:
        self._pid = os.getpid()
        self._sock = sock
        self._raise_child = raise_child
        self._children: dict[int, BaseProcess] = {}
        self._selector = selectors.DefaultSelector()
        self._bell, self._rope = os.pipe()
        for descriptor in (self._bell, self._rope):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self._rope, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _wake_up)
        self._selector.register(self._sock, selectors.EVENT_READ)
        self._selector.register(self._bell, selectors.EVENT_READ)

    def run(self) -> None:
        """Obey until the parent's end of the line is closed, then end the children."""
        try:
            while True:
                ready = [key.fileobj for key, _ in self._selector.select()]
                if self._bell in ready:
                    self._reap()
                if self._sock in ready and not self._obey():
                    break
        except OSError:  # the parent is gone in the middle of a word
            pass
        finally:
            self._end_children()

    def _obey(self) -> bool:
        record = self._sock.recv(_RECORD.size, socket.MSG_WAITALL)
        if len(record) < _RECORD.size:
            return False
        kind, first, second = _RECORD.unpack(record)
        if kind == _SPAWN:
            self._spawn(first)
        elif kind == _LOAD:
            _load(json.loads(self._sock.recv(first, socket.MSG_WAITALL)), reload=bool(second))
        else:
            self._signal(first, second)
        return True

    def _spawn(self, slot: int) -> None:
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            self._tell(_FAILED, slot, error.errno or 0)
            return
        with ours, theirs:
            child = _fork.Process(target=self._live, args=(slot, ours, theirs), name=f"djqueue-child-{slot}")
            try:
                child.start()
            except OSError as error:
                self._tell(_FAILED, slot, error.errno or 0)
                return
            self._children[child.pid] = child
            theirs.close()  # only the child holds it now, so its death is heard
            socket.send_fds(self._sock, [_RECORD.pack(_BORN, slot, child.pid)], [ours.fileno()])

    def _live(self, slot: int, parents_end: socket.socket, sock: socket.socket) -> None:
        """Be the child, in the process forked for it; nothing of the nursery stays open."""
        die_with_parent(self._pid)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        os.close(self._bell)
        os.close(self._rope)
        self._sock.close()
        parents_end.close()
        self._children.clear()
        sys.exit(self._raise_child(slot, sock))

    def _signal(self, pid: int, signum: int) -> None:
        if pid not in self._children:
            return  # it is dead and reaped; the parent will read so
        _kill(pid, signum)

    def _reap(self) -> None:
        try:
            while os.read(self._bell, 4096):
                continue
        except BlockingIOError:
            pass
        for pid, child in list(self._children.items()):
            if child.exitcode is not None:
                del self._children[pid]
                self._tell(_EXITED, pid, child.exitcode)
                child.close()

    def _end_children(self) -> None:
        for pid in self._children:
            _kill(pid, signal.SIGKILL)
        for child in self._children.values():
            child.join()

    def _tell(self, kind: bytes, first: int, second: int) -> None:
        self._sock.sendall(_RECORD.pack(kind, first, second))


def _load(modules: Sequence[str], *, reload: bool) -> None:
    """Import the modules here, so that the children have them; one that fails is told of and left out."""
    for name in modules:
        try:
            load_module(name, again=reload)
        except BaseException as error:  # whatever a user's module raises must not end the nursery
            log_lines.module_not_loaded(name, repr(error))
    gc.collect()
    gc.freeze()


def _wake_up(signum: int, frame: object) -> None:
    """Let the signal interrupt the selector; the byte in the pipe says the rest."""


def _kill(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
        if signum == signal.SIGKILL:
            os.killpg(pid, signum)  # what the task started lives in the child's process group
    except (ProcessLookupError, PermissionError):  # a zombie, or no group of its own yet
        return
