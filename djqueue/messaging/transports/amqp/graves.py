"""What workers that died on this machine had begun: RabbitMQ gives their messages back and cannot tell.

Each worker holds a lock on its start board. A board without its owner names the messages that were being run;
one that comes back and is named there was started once more than it says. Boards are kept for a day.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from djqueue.messaging import boards
from djqueue.messaging.liveness import Remains
from djqueue.messaging.startboard import read_started_tags

PREFIX = "amqp-"
#: after so long whatever a dead worker had begun has come back, seconds
KEPT = 24 * 3600.0


def path_of(consumer: str) -> Path | None:
    """Return where the board of a consumer lies; None where there is no safe place."""
    return boards.path_of(PREFIX + consumer)


def begun(own: Path | None) -> Counter[str]:
    """Return the keys of the messages that dead workers had begun, and by how many of them each."""
    found: Counter[str] = Counter()
    directory = None if own is None else own.parent
    if directory is None:
        return found
    with suppress(OSError):
        for name in os.listdir(directory):
            if name.startswith(PREFIX) and name != (own.name if own else ""):
                found.update(_begun(directory / name))
    return found


def _begun(path: Path) -> set[str]:
    """Return the keys on one board, if its owner is dead."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return set()
    try:
        # Shared: several may look at the same time. The owner's lock is exclusive.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        remains = Remains(path, descriptor)
        if remains.may_be_unborn:
            return set()
        if time.time() - os.fstat(descriptor).st_mtime > KEPT:
            remains.clear()
            return set()
        return {key_of(tag) for tag in read_started_tags(path)}
    except OSError:  # its owner lives
        return set()
    finally:
        os.close(descriptor)


def key_of(tag: str) -> str:
    """Return the part of a delivery's tag that names the message to everybody."""
    return tag.partition(":")[2]
