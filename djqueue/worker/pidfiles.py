"""The file that names the worker's process, for init scripts.

`pid_file` writes it on entry and removes it on exit; a file whose process is gone is taken over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from djqueue.exceptions import ImproperlyConfigured


@contextmanager
def pid_file(path: Path) -> Iterator[None]:
    """Hold `path` with this process's number inside.

    Raises `ImproperlyConfigured` when another process that lives holds it.
    """
    try:
        _write(path)
    except FileExistsError:
        holder = _holder(path)
        if holder is not None and _lives(holder):
            raise ImproperlyConfigured(
                f"The pid file {path} belongs to process {holder}, which is running. Stop that worker, or"
                " give this one another --pidfile."
            ) from None
        path.unlink(missing_ok=True)
        _write(path)
    try:
        yield
    finally:
        if _holder(path) == os.getpid():
            path.unlink(missing_ok=True)


def _write(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.write(descriptor, f"{os.getpid()}\n".encode())
    finally:
        os.close(descriptor)


def _holder(path: Path) -> int | None:
    try:
        return int(path.read_text().strip())
    except (FileNotFoundError, ValueError):
        return None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
