"""Who lives on this machine: a consumer's id tells where its process is, so that its death is seen at once.

A machine is a boot of a kernel and a namespace of process ids: only there does a process id mean the same to
everyone. Where the system cannot say that, consumers are never seen to die, and their leases decide.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from pathlib import Path

_NOWHERE = "0" * 8


def this_machine() -> str:
    """Return eight characters that stand for this machine until it boots again."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return _NOWHERE
    words = f"{boot} {namespace} {socket.gethostname()}"
    return hashlib.sha256(words.encode()).hexdigest()[:8]


def new_consumer() -> str:
    """Return an id that no consumer ever had: machine, process, its start, and something random."""
    process = os.getpid()
    return f"{this_machine()}.{process}.{_started(process) or 0}.{secrets.token_hex(4)}"


def machine_of(consumer: str) -> str:
    """Return the machine part of a consumer's id."""
    return consumer.partition(".")[0]


def is_gone(consumer: str) -> bool:
    """Return whether the consumer's process was on this machine and is no more. Unknown is False."""
    try:
        machine, process, started, _ = consumer.split(".")
        if machine == _NOWHERE or machine != this_machine() or started == "0":
            return False
        return _started(int(process)) != int(started)
    except ValueError:
        return False


def _started(process: int) -> int | None:
    """Return when the process started, in clock ticks since the boot; None when it is dead or a zombie."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])
