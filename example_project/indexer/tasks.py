"""The indexer's tasks: look into one file; note that a schedule fired.

The demo sends the first for every file it finds, and has beat send the second.
"""

from __future__ import annotations

from pathlib import Path

from django.utils import timezone

from djqueue import shared_task
from example_project.indexer.counting import count


@shared_task
def index_file(path: str) -> dict[str, int]:
    """Return the counts of one file."""
    return count(Path(path))


@shared_task
def note_time(path: str) -> str:
    """Append the time to a file, and return it."""
    now = timezone.now().isoformat(timespec="milliseconds")
    with Path(path).open("a") as notes:
        notes.write(now + "\n")
    return now
