"""Processes as the kernel sees them: who descends from whom, who is alive, who is stopped.

Reads `/proc`, so it tells the truth about children that their parent does not know or no longer owns.
Process ids come in; process ids, states and signals sent to whole trees leave.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def state(pid: int) -> str | None:
    """Return the kernel's letter for the process (R, S, T, Z, …), or None when there is none."""
    fields = _stat(pid)
    return fields[0] if fields else None


def is_alive(pid: int) -> bool:
    """Tell whether the process exists and is more than a zombie."""
    return state(pid) not in (None, "Z", "X")


def are_gone(pids: Iterable[int]) -> bool:
    """Tell whether none of the processes is alive."""
    return not any(map(is_alive, pids))


def children(pid: int) -> list[int]:
    """Return the direct children, zombies left out."""
    found = [(child, _stat(child)) for child in _pids()]
    return [child for child, fields in found if fields and int(fields[1]) == pid and fields[0] != "Z"]


def descendants(pid: int) -> list[int]:
    """Return all descendants, parents before their children."""
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def with_variable(name: str, value: str) -> list[int]:
    """Return the living processes whose environment has this variable: also those that changed parents."""
    wanted = f"{name}={value}".encode()
    found = []
    for pid in _pids():
        with suppress(OSError):
            if wanted in (PROC / str(pid) / "environ").read_bytes().split(b"\0") and is_alive(pid):
                found.append(pid)
    return found


def signal_tree(pid: int, number: signal.Signals) -> list[int]:
    """Send the signal to the process and all its descendants; return who was meant.

    For SIGKILL the tree is listed before the first of them dies; parents come first, so that none of them
    sees a child die and makes another.
    """
    tree = [pid, *descendants(pid)]
    for member in tree:
        with suppress(ProcessLookupError):
            os.kill(member, number)
    return tree


def _pids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the state on (the name before them may hold anything)."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()
