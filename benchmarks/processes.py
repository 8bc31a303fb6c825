"""Processes of a round: workers and a private Redis, from start to a clean stop, and what they weigh.

Commands come in; every process that is started here is gone when the round is over.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as NotThere

#: a process that was asked to stop gets so long, seconds
PATIENCE = 30


@contextmanager
def running(
    command: Sequence[str], environment: dict[str, str] | None, log: Path, copies: int = 1
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run the command, `copies` of it at once, until the block is left."""
    with log.open("ab") as output:
        started = [
            subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
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


def tree_pss(pids: Sequence[int]) -> float:
    """Return the proportional memory of processes and all below them, in MB."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:  # gone meanwhile
            continue
        parents[int(entry.parent.name)] = int(fields[1])
    tree = set(pids)
    while below := {child for child, parent in parents.items() if parent in tree} - tree:
        tree |= below
    total = 0
    for member in tree:
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024
