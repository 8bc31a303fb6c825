"""What every server of the tests can do, and how a throw-away one is started, frozen, killed and removed.

A kind of server says how it is launched and how it is known to be ours; it gets a directory and a port of its
own, and leaves nothing behind.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, NoReturn

import pytest

from tests.support import proctree
from tests.support.waiting import wait_until


class Server:
    """A server that somebody else runs: it can be used, and left alone."""

    def __init__(self, url: str) -> None:
        self.url = url

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._only_private("killed")

    def stop(self) -> None:
        """Freeze it: connections stay open, nothing is answered."""
        self._only_private("stopped")

    def cont(self) -> None:
        """Let a frozen server go on."""
        self._only_private("continued")

    def restart(self, *, keep_data: bool = True) -> None:
        """Kill it if it still runs, and start it again at the same address."""
        self._only_private("restarted")

    def vhost(self, name: str) -> str:
        """Return the URL of a virtual host of that name, which is made if need be."""
        self._only_private("given virtual hosts")

    def close(self) -> None:
        """Leave nothing behind. May be called twice."""

    def _only_private(self, what: str) -> NoReturn:
        pytest.skip(f"{self.url} is not ours to be {what}; unset its variable to let tests start their own.")


class PrivateServer(Server, ABC):
    """A throw-away server in a directory and on a port of its own."""

    #: the program looked for on PATH (and in `also_at`, where Debian hides some)
    program: ClassVar[str]
    also_at: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"djqueue-{self.program}-"))
        self.port = free_port()
        super().__init__(self.address())
        self._process: subprocess.Popen[bytes] | None = None
        self.restart()

    @classmethod
    def binary(cls) -> str | None:
        """Return where the program is, or None."""
        places = [*cls.also_at, os.environ.get("PATH", "")]
        return next((found for place in places if (found := shutil.which(cls.program, path=place))), None)

    @abstractmethod
    def address(self) -> str:
        """Return the URL clients use."""

    @abstractmethod
    def launch(self) -> subprocess.Popen[bytes]:
        """Start the server in the foreground."""

    @abstractmethod
    def is_ours(self) -> bool:
        """Tell whether it answers, and that it is this process that answers: ports get taken."""

    def kill(self) -> None:
        if self._process is not None:
            proctree.signal_tree(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        assert self._process is not None
        proctree.signal_tree(self._process.pid, signal.SIGSTOP)

    def cont(self) -> None:
        assert self._process is not None
        proctree.signal_tree(self._process.pid, signal.SIGCONT)

    def restart(self, *, keep_data: bool = True) -> None:
        self.kill()
        if not keep_data:
            shutil.rmtree(self.directory)
            self.directory.mkdir()
        self._process = self.launch()
        wait_until(self._answers, 60, f"for {self.program} to answer at {self.url}; see {self.directory}")

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            log = self.directory / "output.log"
            raise AssertionError(f"{self.program} ended at once. It printed:\n{log.read_text()}")
        return self.is_ours()

    def _run(self, *command: str, user: str | None = None, **environment: str) -> subprocess.Popen[bytes]:
        with (self.directory / "output.log").open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.directory,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
            )


def free_port() -> int:
    """Return a port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
