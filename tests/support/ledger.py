"""The ledger of crash tests: who started and ended which task, written past everything under test.

Tasks and producers append one line per event with a single `O_APPEND` write, which survives any kill of the
writer; the checker reads the file afterwards and says what was lost, what ran too often, what ran that
nobody asked for, and how long it took to start a task again after each fault.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

#: Events of the producer: before the call, after it returned, after it raised.
ATTEMPTED, ACCEPTED, RAISED = "attempted", "accepted", "raised"
#: Events of a task: user code entered, and about to return.
STARTED, ENDED = "started", "ended"
#: The test broke something.
FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: when (CLOCK_MONOTONIC, the same for all processes of the machine), what, who."""

    moment: float
    event: str
    task_id: str
    attempt: int
    pid: int


@dataclass(slots=True)
class Findings:
    """What the checker found.

    `lost` were accepted and neither ended nor reached a terminal state; `extra_starts` counts starts beyond
    the first, by task; `unexpected` started without ever having been attempted; `recovery` is the longest
    time in seconds from a fault to the next start of a task that it had interrupted.
    """

    accepted: int
    lost: list[str]
    extra_starts: dict[str, int]
    unexpected: list[str]
    recovery: float = 0.0
    never_restarted: list[str] = field(default_factory=list)

    @property
    def duplicates(self) -> int:
        """How many starts there were beyond one per task."""
        return sum(self.extra_starts.values())


class Ledger:
    """An append-only file of events; any number of processes write to it at once."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def note(self, event: str, task_id: str = "-", attempt: int = 0) -> None:
        """Append one event, in one write, so that a kill leaves the whole line or none of it."""
        line = f"{time.monotonic():.6f} {event} {task_id} {attempt} {os.getpid()}\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def entries(self) -> list[Entry]:
        """Return what was written so far, in the order of writing."""
        if not self.path.exists():
            return []
        return [_entry(line) for line in self.path.read_text().splitlines()]

    def ids(self, event: str) -> list[str]:
        """Return the task ids of all entries of that event."""
        return [entry.task_id for entry in self.entries() if entry.event == event]


def check(ledger: Ledger, terminal: Iterable[str] = ()) -> Findings:
    """Compare what was accepted with what ran; `terminal` are ids the system itself calls finished.

    Call it after the drain: when nothing waits, runs or is delayed any more.
    """
    entries = ledger.entries()
    by_event: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_event[entry.event].append(entry)
    done = {entry.task_id for entry in by_event[ENDED]} | set(terminal)
    accepted = {entry.task_id for entry in by_event[ACCEPTED]}
    attempted = {entry.task_id for entry in by_event[ATTEMPTED]} | accepted
    starts = Counter(entry.task_id for entry in by_event[STARTED])
    findings = Findings(
        accepted=len(accepted),
        lost=sorted(accepted - done),
        extra_starts={task_id: count - 1 for task_id, count in sorted(starts.items()) if count > 1},
        unexpected=sorted(set(starts) - attempted),
    )
    for fault in by_event[FAULT]:
        _measure_recovery(fault, by_event, findings)
    return findings


def _measure_recovery(fault: Entry, by_event: dict[str, list[Entry]], findings: Findings) -> None:
    """Find the tasks that `fault` cut short, and when each was started again."""
    ends: dict[tuple[str, int], float] = {
        (entry.task_id, entry.pid): entry.moment for entry in by_event[ENDED]
    }
    for start in by_event[STARTED]:
        running = start.moment <= fault.moment and (start.task_id, start.pid) not in ends
        restarted_before = any(
            later.task_id == start.task_id and start.moment < later.moment <= fault.moment
            for later in by_event[STARTED]
        )
        if not running or restarted_before:
            continue
        again = [
            later.moment - fault.moment
            for later in by_event[STARTED]
            if later.task_id == start.task_id and later.moment > fault.moment
        ]
        if again:
            findings.recovery = max(findings.recovery, min(again))
        else:
            findings.never_restarted.append(start.task_id)


def _entry(line: str) -> Entry:
    moment, event, task_id, attempt, pid = line.split()
    return Entry(float(moment), event, task_id, int(attempt), int(pid))
