"""Real servers for tests: named by the environment, private ones, or those at the standard local ports.

`provide("redis")` looks for `DJQUEUE_TEST_REDIS_URL`; else starts a throw-away server from the binary on
PATH, in a directory of its own; else takes a server at the standard port, in a corner of it that is ours.
When there is none, the test is skipped with one line that says how to get it; with CI=true it fails.
Only private servers can be killed, stopped and restarted.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, NoReturn

import pytest
import redis
from kombu.connection import Connection

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

    def close(self) -> None:
        """Leave nothing behind. May be called twice."""

    def _only_private(self, what: str) -> None:
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


class PrivateRedis(PrivateServer):
    """Redis that writes every command to its file before it answers, so that a kill loses nothing."""

    program = "redis-server"

    def address(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def launch(self) -> subprocess.Popen[bytes]:
        where = f"--port {self.port} --bind 127.0.0.1 --dir {self.directory}".split()
        durable = ["--appendonly", "yes", "--appendfsync", "always"]
        return self._run(str(self.binary()), *where, *durable, "--save", "")

    def is_ours(self) -> bool:
        with suppress(redis.exceptions.ConnectionError), redis.Redis.from_url(self.url) as client:
            return bool(self._process and client.info("server")["process_id"] == self._process.pid)
        return False


class PrivatePostgres(PrivateServer):
    """PostgreSQL with a data directory of its own; never as root, which it refuses."""

    program = "initdb"
    also_at = tuple(sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True))

    def address(self) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    def launch(self) -> subprocess.Popen[bytes]:
        user = "postgres" if os.geteuid() == 0 else None
        if user:
            shutil.chown(self.directory, user)
        data = str(self.directory / "data")
        initdb = str(self.binary())
        if not Path(data).exists():
            made = self._run(initdb, "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", user=user)
            assert made.wait(60) == 0, (self.directory / "output.log").read_text()
        postgres = str(Path(initdb).resolve().with_name("postgres"))
        where = f"-D {data} -p {self.port} -h 127.0.0.1 -k {self.directory}"
        return self._run(postgres, *where.split(), user=user)

    def is_ours(self) -> bool:
        # The file holds the pid in its first line, and "ready" in its eighth once connections are taken.
        with suppress(FileNotFoundError):
            lines = (self.directory / "data" / "postmaster.pid").read_text().split("\n")
            mine = self._process is not None and lines[0] == str(self._process.pid)
            return mine and len(lines) > 7 and lines[7].strip() == "ready"
        return False


class PrivateRabbit(PrivateServer):
    """A RabbitMQ node with a name, database and cookie of its own."""

    program = "rabbitmq-server"
    # The one on Debian's PATH insists on the system's directories.
    also_at = ("/usr/lib/rabbitmq/bin",)

    @property
    def node(self) -> str:
        """The Erlang node's name."""
        return f"djqueue-{self.port}@localhost"

    def address(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def launch(self) -> subprocess.Popen[bytes]:
        directory = str(self.directory)
        return self._run(
            str(self.binary()),
            HOME=directory,
            RABBITMQ_NODENAME=self.node,
            RABBITMQ_NODE_IP_ADDRESS="127.0.0.1",
            RABBITMQ_NODE_PORT=str(self.port),
            RABBITMQ_DIST_PORT=str(free_port()),
            RABBITMQ_MNESIA_BASE=directory,
            RABBITMQ_LOG_BASE=directory,
            RABBITMQ_CONFIG_FILE=f"{directory}/none",
            RABBITMQ_ENABLED_PLUGINS_FILE=f"{directory}/plugins",
            RABBITMQ_PID_FILE=f"{directory}/pid",
        )

    def is_ours(self) -> bool:
        connection = Connection(self.url, connect_timeout=2)
        with suppress(OSError), connection:
            properties = connection.connection.server_properties
            return bool(properties["cluster_name"].startswith(self.node.split("@")[0]))
        return False


def free_port() -> int:
    """Return a port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LocalRedis(Server):
    """A corner of the Redis at the standard port: the highest database number that is empty."""

    def __init__(self) -> None:
        for number in range(15, 0, -1):
            super().__init__(f"redis://127.0.0.1:6379/{number}")
            with suppress(redis.exceptions.ResponseError), redis.Redis.from_url(self.url) as client:
                if client.dbsize() == 0:
                    return
        raise LookupError("every database of the Redis at port 6379 is in use")

    def close(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.flushdb()


class LocalRabbit(Server):
    """A virtual host of our own in the RabbitMQ at the standard port, made through its management port."""

    def __init__(self) -> None:
        self._vhost = f"djqueue-{os.getpid()}"
        self._manage("PUT")
        super().__init__(f"amqp://guest:guest@127.0.0.1:5672/{self._vhost}")

    def close(self) -> None:
        self._manage("DELETE")

    def _manage(self, method: str) -> None:
        address = f"http://127.0.0.1:15672/api/vhosts/{self._vhost}"
        # "Z3Vlc3Q6Z3Vlc3Q=" is guest:guest, RabbitMQ's own default.
        headers = {"Authorization": "Basic Z3Vlc3Q6Z3Vlc3Q=", "Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(address, method=method, headers=headers), timeout=5)


class LocalPostgres(Server):
    """The PostgreSQL at the standard port; Django's tests make a database of their own in it."""

    def __init__(self) -> None:
        super().__init__("postgres://postgres@127.0.0.1:5432/postgres")


#: kind → variable, private server, port, the corner of a local server, how to get one
KINDS: dict[str, tuple[str, type[PrivateServer], int, Callable[[], Server], str]] = {
    "redis": ("DJQUEUE_TEST_REDIS_URL", PrivateRedis, 6379, LocalRedis, "apt-get install redis-server"),
    "amqp": ("DJQUEUE_TEST_AMQP_URL", PrivateRabbit, 5672, LocalRabbit, "apt-get install rabbitmq-server"),
    "postgres": (
        "DJQUEUE_TEST_POSTGRES_URL",
        PrivatePostgres,
        5432,
        LocalPostgres,
        "apt-get install postgresql",
    ),
}


def provide(kind: str) -> Server:
    """Return a server of that kind, or skip the test (CI=true: fail it) saying how to get one."""
    variable, private, port, local, hint = KINDS[kind]
    if url := os.environ.get(variable):
        return Server(url)
    if private.binary():
        return private()
    if _listens(port):
        with suppress(OSError, LookupError):
            return local()
    missing(f"No {kind} server: {hint}, or name one by {variable}.")


def missing(line: str) -> NoReturn:
    """Skip the test that needs what `line` tells how to get; with CI=true it fails instead."""
    if os.environ.get("CI") == "true":
        pytest.fail(line, pytrace=False)
    pytest.skip(line)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
