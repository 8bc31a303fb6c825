"""The living around an SQLite file: each holds the lock of a file of its own, and has a doorbell beside it.

A claimer's name and the directory come in; `liveness` knows the locks and `doorbell` the rings, this room
makes of both what the source and kombu's connections ask for.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from djqueue.messaging import liveness, log_lines
from djqueue.messaging.contract import Watch
from djqueue.messaging.transports.database.contract import Presence, Remains
from djqueue.messaging.transports.database.doorbell import Doorbell


class FileRemains(Remains):
    """The file of a dead claimer, its lock held by us, and its doorbell."""

    def __init__(self, directory: Path, found: liveness.Remains) -> None:
        self.claimer = found.claimer
        self._directory = directory
        self._found = found

    def started_tags(self) -> list[str]:
        """Read them from the file, which is the start board."""
        return self._found.started_tags()

    @property
    def may_be_unborn(self) -> bool:
        """A file without claims and locks may belong to a worker that is just starting."""
        return self._found.may_be_unborn

    def clear(self) -> None:
        """Remove both files."""
        Doorbell(self._directory, liveness.file_name(self.claimer)).close()
        self._found.clear()


class FilePresence(Presence):
    """A claimer that holds a lock, and hears when somebody rings."""

    def __init__(self, directory: Path, claimer: str) -> None:
        self.name = claimer
        self._directory = directory
        self._lifeline = liveness.LifeLine(liveness.path_of(directory, claimer))
        self._doorbell = Doorbell(directory, liveness.file_name(claimer))
        self._has_no_bell = False  # it was tried

    @property
    def hears(self) -> bool:
        """Whether the doorbell could be hung up."""
        return self._doorbell.fileno() >= 0

    def take(self) -> None:
        """Lock the file, which is made if need be."""
        self._lifeline.take()

    def listen(self, queues: Callable[[], Iterable[str]], watch: Watch, wake: Callable[[], None]) -> None:
        """Hang up the doorbell; where that cannot be done, say so."""

        def answer() -> None:
            if self._doorbell.rang_for(queues()):
                wake()

        if self._hang_up():
            watch(self._doorbell, answer)

    def wait(self, queues: Iterable[str], seconds: float) -> None:
        """Sleep until it rings."""
        if not self.hears and not self._has_no_bell:
            self._hang_up()
        descriptor = self._doorbell.fileno()
        select.select([descriptor] if descriptor >= 0 else [], [], [], seconds)
        self._doorbell.rang_for(queues)

    def remains(self) -> Iterator[Remains]:
        """Yield those whose lock is free; nobody else gets the same one meanwhile."""
        for found in liveness.remains(self._directory, self._lifeline.path):
            yield FileRemains(self._directory, found)

    def known(self) -> set[str]:
        """Return who has a file."""
        return liveness.claimers(self._directory)

    def leave(self) -> None:
        """Remove doorbell and file."""
        self._doorbell.close()
        self._lifeline.leave()

    def forget(self) -> None:
        """Close the descriptors."""
        self._doorbell.forget()
        self._lifeline.forget()

    def _hang_up(self) -> bool:
        try:
            self._doorbell.open()
        except OSError as error:
            self._doorbell.close()
            self._has_no_bell = True
            log_lines.no_doorbell(str(error))
            return False
        return True
