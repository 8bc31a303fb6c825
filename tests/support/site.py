"""A project under fire: workers, a producer with its ledger, and ways to wait for what they do.

Tests of each broker add what they look at in the server.
"""

from __future__ import annotations

from typing import Any

from djqueue import enqueue_many
from djqueue.exceptions import OperationalError
from tests.project import tasks
from tests.support import ledger as ledgers
from tests.support.ledger import Ledger
from tests.support.processes import Command, Processes
from tests.support.waiting import wait_until

#: how long anything may take on a busy machine, seconds
WAIT = 60.0


class Site:
    """Workers and a producer with the given `DJQUEUE` settings."""

    def __init__(self, processes: Processes, ledger: Ledger, settings: dict[str, Any]) -> None:
        self.processes = processes
        self.ledger = ledger
        self.settings = settings

    def worker(self, name: str = "one", *flags: str) -> Command:
        """Start a worker and wait until it works."""
        command = self.processes.start(
            "runworker", "-c", "2", "-n", f"{name}@%h", *flags, settings=self.settings
        )
        command.wait_for_line("djq.worker.ready", within=30)
        return command

    def send(self, count: int, seconds: float) -> None:
        """Send `count` recording tasks of `seconds` each."""
        for result in enqueue_many([tasks.record.s(str(self.ledger.path), seconds) for _ in range(count)]):
            self.ledger.note(ledgers.ACCEPTED, result.id)

    def send_one(self, seconds: float, **options: Any) -> str | None:
        """Send one such task; note whether it was accepted, and return its id if it was."""
        try:
            result = tasks.record.apply_async((str(self.ledger.path), seconds), **options)
        except OperationalError:
            self.ledger.note(ledgers.RAISED)
            return None
        self.ledger.note(ledgers.ACCEPTED, result.id)
        return str(result.id)

    def ends(self) -> int:
        """Return how many tasks have ended."""
        return len(set(self.ledger.ids(ledgers.ENDED)))

    def starts(self) -> int:
        """Return how often a task was started."""
        return len(self.ledger.ids(ledgers.STARTED))

    def wait_for_ends(self, count: int) -> None:
        """Wait until so many tasks have ended."""
        wait_until(lambda: self.ends() >= count, WAIT, f"for {count} tasks to end")

    def wait_for_starts(self, count: int) -> None:
        """Wait until so many starts were seen."""
        wait_until(lambda: self.starts() >= count, WAIT, f"for {count} starts of tasks")
