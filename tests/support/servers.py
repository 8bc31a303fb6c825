"""Real servers for tests: named by the environment, private ones, or those at the standard local ports.

`provide("redis")` looks for `DJQUEUE_TEST_REDIS_URL`; else starts a throw-away server from the binary on
PATH, in a directory of its own; else takes a server at the standard port, in a corner of it that is ours.
When there is none, the test is skipped with one line that says how to get it; with CI=true it fails.
Only private servers can be killed, stopped and restarted.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pymysql
import pytest
import redis

from tests.support.private import PrivateServer, Server, free_port
from tests.support.rabbit import LocalRabbit, PrivateRabbit

__all__ = ["KINDS", "PrivateRabbit", "PrivateRedis", "Server", "free_port", "missing", "provide"]


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


class PrivateMemcached(PrivateServer):
    """memcached that takes items as large as the tests make them."""

    program = "memcached"

    def address(self) -> str:
        return f"cache+memcached://127.0.0.1:{self.port}/"

    def launch(self) -> subprocess.Popen[bytes]:
        where = f"-p {self.port} -l 127.0.0.1 -U 0 -I 32m -m 128".split()
        user = ["-u", "root"] if os.geteuid() == 0 else []
        return self._run(str(self.binary()), *where, *user)

    def is_ours(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as asking:
            asking.sendall(b"stats\r\n")
            said = asking.recv(4096)
            return self._process is not None and f"STAT pid {self._process.pid}\r".encode() in said
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

    def standby(self) -> Standby:
        """Return a standby without which nothing is committed from now on."""
        return Standby(self)

    def say(self, statement: str) -> None:
        """Run a statement as its administrator."""
        command = [str(Path(str(self.binary())).resolve().with_name("psql")), "-q", self.url, "-c", statement]
        subprocess.run(command, check=True, capture_output=True)


class Standby(PrivatePostgres):
    """A synchronous standby of a private PostgreSQL."""

    def __init__(self, primary: PrivatePostgres) -> None:
        self._primary = primary
        super().__init__()
        primary.say("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.say("SELECT pg_reload_conf()")

    def launch(self) -> subprocess.Popen[bytes]:
        data = self.directory / "data"
        if not data.exists():
            user = "postgres" if os.geteuid() == 0 else None
            if user:
                shutil.chown(self.directory, user)
            program = str(Path(str(self.binary())).resolve().with_name("pg_basebackup"))
            copied = self._run(
                program, "-D", str(data), "-R", "-c", "fast", "-d", self._primary.url, user=user
            )
            assert copied.wait(60) == 0, (self.directory / "output.log").read_text()
        return super().launch()

    def is_ours(self) -> bool:
        with suppress(FileNotFoundError):
            lines = (self.directory / "data" / "postmaster.pid").read_text().split("\n")
            mine = self._process is not None and lines[0] == str(self._process.pid)
            return mine and len(lines) > 7 and lines[7].strip() in ("standby", "ready")
        return False

    def promote(self) -> None:
        """Make it the primary; it waits for no standby of its own."""
        self.say("SELECT pg_promote()")


class PrivateMariaDB(PrivateServer):
    """MariaDB with a data directory of its own."""

    program = "mariadbd"
    also_at = ("/usr/sbin",)

    def address(self) -> str:
        return f"mysql://root@127.0.0.1:{self.port}/mysql"

    def launch(self) -> subprocess.Popen[bytes]:
        user = "mysql" if os.geteuid() == 0 else None
        if user:
            shutil.chown(self.directory, user)
        data = self.directory / "data"
        if not data.exists():
            install = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--skip-test-db"]
            made = self._run(*install, "--auth-root-authentication-method=normal", user=user)
            assert made.wait(120) == 0, (self.directory / "output.log").read_text()
        where = [f"--datadir={data}", f"--port={self.port}", "--bind-address=127.0.0.1"]
        sockets = [f"--socket={self.directory}/s", f"--pid-file={self.directory}/pid"]
        # PyMySQL doubles the size of what is binary.
        large = ["--max-allowed-packet=64M"]
        return self._run(str(self.binary()), "--no-defaults", *where, *sockets, *large, user=user)

    def is_ours(self) -> bool:
        with suppress(pymysql.MySQLError):
            connection = pymysql.connect(host="127.0.0.1", port=self.port, user="root", connect_timeout=2)
            with connection, connection.cursor() as cursor:
                cursor.execute("SELECT @@datadir")
                return bool(cursor.fetchone()[0].startswith(str(self.directory)))
        return False


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


def no_corner() -> Server:
    """Find no corner: a server that knows no databases or prefixes is not ours to be emptied."""
    raise LookupError


class LocalPostgres(Server):
    """The PostgreSQL at the standard port; Django's tests make a database of their own in it."""

    def __init__(self) -> None:
        super().__init__("postgres://postgres@127.0.0.1:5432/postgres")


class LocalMariaDB(Server):
    """The MariaDB or MySQL at the standard port; tests make a database of their own in it."""

    def __init__(self) -> None:
        super().__init__("mysql://root@127.0.0.1:3306/mysql")


#: kind → variable, private server, port, the corner of a local server, how to get one
KINDS: dict[str, tuple[str, type[PrivateServer], int, Callable[[], Server], str]] = {
    "redis": ("DJQUEUE_TEST_REDIS_URL", PrivateRedis, 6379, LocalRedis, "apt-get install redis-server"),
    "amqp": ("DJQUEUE_TEST_AMQP_URL", PrivateRabbit, 5672, LocalRabbit, "apt-get install rabbitmq-server"),
    "memcached": (
        "DJQUEUE_TEST_MEMCACHED_URL",
        PrivateMemcached,
        11211,
        no_corner,
        "apt-get install memcached",
    ),
    "postgres": (
        "DJQUEUE_TEST_POSTGRES_URL",
        PrivatePostgres,
        5432,
        LocalPostgres,
        "apt-get install postgresql",
    ),
    "mariadb": (
        "DJQUEUE_TEST_MYSQL_URL",
        PrivateMariaDB,
        3306,
        LocalMariaDB,
        "apt-get install mariadb-server",
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
