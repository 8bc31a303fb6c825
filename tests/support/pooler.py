"""PgBouncer in front of a test's PostgreSQL, on a port of its own.

A server's URL and a pool mode come in; what leaves is one more server, which passes everybody on to that one.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from urllib.parse import urlsplit

from tests.support.private import PrivateServer
from tests.support.servers import missing


class PgBouncer(PrivateServer):
    """PgBouncer; lends sessions for a transaction or for as long as its client is connected."""

    program = "pgbouncer"
    also_at = ("/usr/sbin",)

    def __init__(self, target: str, mode: str) -> None:
        self._target = urlsplit(target)
        self._mode = mode
        super().__init__()

    def address(self) -> str:
        return self._target._replace(netloc=f"postgres@127.0.0.1:{self.port}").geturl()

    def launch(self) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": self._mode,
            "pidfile": self.directory / "pid",
            "max_client_conn": 300,
            "ignore_startup_parameters": "extra_float_digits",
        }
        file = self.directory / "pgbouncer.ini"
        file.write_text(
            f"[databases]\n* = host={self._target.hostname} port={self._target.port} user=postgres\n"
            "[pgbouncer]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())
        )
        user = "postgres" if os.geteuid() == 0 else None
        if user:
            shutil.chown(self.directory, user)
            shutil.chown(file, user)
        (self.directory / "pid").unlink(missing_ok=True)
        return self._run(str(self.binary()), str(file), user=user)

    def is_ours(self) -> bool:
        with suppress(OSError, ValueError):
            is_mine = self._process is not None and self._process.pid == int(
                (self.directory / "pid").read_text()
            )
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return is_mine
        return False


@contextmanager
def pooling(target: str, mode: str) -> Iterator[PgBouncer]:
    """Run PgBouncer in front of the database at the URL; skip the test where it is not installed."""
    if not PgBouncer.binary():
        missing("No PgBouncer: apt-get install pgbouncer.")
    with closing(PgBouncer(target, mode)) as pooler:
        yield pooler
