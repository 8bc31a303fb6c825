"""Processes of a round: workers and a private server, from start to a clean stop, and what they weigh.

Commands come in; every process that is started here is gone when the round is over.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
from redis import Redis
from redis.exceptions import ConnectionError as NotThere

#: a process that was asked to stop gets so long, seconds
PATIENCE = 30


@contextmanager
def running(
    command: Sequence[str],
    environment: dict[str, str] | None,
    log: Path,
    copies: int = 1,
    user: str | None = None,
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run the command, `copies` of it at once, until the block is left."""
    with log.open("ab") as output:
        started = [
            subprocess.Popen(
                command, env=environment, stdout=output, stderr=output, start_new_session=True, user=user
            )
            for _ in range(copies)
        ]
        try:
            yield started
        finally:
            for process in started:
                process.send_signal(signal.SIGTERM)
            for process in started:
                try:
                    process.wait(timeout=PATIENCE)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


@contextmanager
def redis_server(directory: Path) -> Iterator[int]:
    """Run a Redis of our own that writes nothing to disk; give its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory)]
    command += ["--save", "", "--appendonly", "no"]
    with running(command, None, directory / "redis.log"):
        client = Redis(port=port)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                client.ping()
                break
            except NotThere:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        client.close()
        yield port


@contextmanager
def postgres_server(directory: Path) -> Iterator[int]:
    """Run a PostgreSQL of our own with its defaults, all of them durable; give its port."""
    tools = next(found for found in [shutil.which("initdb"), *_hidden("initdb")] if found)
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    data = directory / "postgres"
    data.mkdir()
    if user:
        directory.chmod(0o755)
        shutil.chown(data, user)
    made = [tools, "-D", str(data), "-U", "postgres", "--auth=trust"]
    subprocess.run(made, check=True, capture_output=True, user=user, cwd=data)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [str(Path(tools).resolve().with_name("postgres")), "-D", str(data), "-p", str(port)]
    command += ["-h", "127.0.0.1", "-k", str(data)]
    with running(command, None, directory / "postgres.log", user=user):
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                psycopg.connect(host="127.0.0.1", port=port, user="postgres").close()
                break
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield port


def _hidden(program: str) -> list[str]:
    """Return where Debian keeps PostgreSQL's programs, the newest first."""
    return sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{program}")), reverse=True)


def tree_pss(pids: Sequence[int]) -> float:
    """Return the proportional memory of processes and all below them, in MB."""
    return sum(one.memory_full_info().pss for one in _trees(pids)) / 2**20


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the processor time of processes and all below them, those that have ended included."""
    return sum(sum(one.cpu_times()[:4]) for one in _trees(pids))


def below(pid: int) -> list[int]:
    """Return the direct children of a process."""
    return [one.pid for one in psutil.Process(pid).children()]


def _trees(pids: Sequence[int]) -> Iterator[psutil.Process]:
    for top in map(psutil.Process, pids):
        yield top
        yield from top.children(recursive=True)
