"""`manage.py demo`: a worker and beat at work on real input, from the empty database to the clean stop.

Migrates, starts both as processes, has every source and message file of the installed Django indexed by a
task of its own, adds up and checks the results, sees a schedule fire, and stops both. The exit status is 0
when all of that worked.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import django
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser, OutputWrapper

from djqueue import AsyncResult, enqueue_many, exceptions
from djqueue_beat.models import IntervalSchedule, PeriodicTask
from example_project.indexer.counting import add_up
from example_project.indexer.service import Service, ServiceFailed
from example_project.indexer.tasks import index_file, note_time

KINDS = {".py": "Python source", ".po": "gettext messages"}
COLUMNS = ("files", "lines", "words", "functions", "classes", "messages")
#: Nobody waits longer than this for one file, or for a schedule of one second, in seconds.
PATIENCE = 30.0


class Command(BaseCommand):
    """Index the installed Django with tasks; print a table."""

    help = "Runs a worker and beat on real input, checks what came out, and stops both."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the flags."""
        parser.add_argument("--files", type=int, metavar="N", help="index only the first N files")
        parser.add_argument("--logs", type=Path, default=Path(), metavar="DIR", help="where logs go")

    def handle(self, *args: Any, files: int | None, logs: Path, **options: Any) -> None:
        """Do the whole, and raise `CommandError` (exit status 1) at the first thing that went wrong."""
        began = time.monotonic()
        logs.mkdir(parents=True, exist_ok=True)
        try:
            self._run(find_files(files), logs.resolve())
        except ServiceFailed as failure:
            raise CommandError(str(failure)) from failure
        self.stdout.write(f"Everything worked, in {time.monotonic() - began:.1f} seconds.")

    def _run(self, paths: Sequence[Path], logs: Path) -> None:
        self.stdout.write("Migrating the database")
        call_command("migrate", verbosity=0)
        with ExitStack() as cleanup:
            notes = schedule_notes(logs, cleanup)
            self.stdout.write("Starting a worker and beat")
            worker = Service("runworker", logs=logs)
            cleanup.callback(worker.kill)
            beat = Service("runbeat", logs=logs)
            cleanup.callback(beat.kill)

            self.stdout.write(f"Sending {len(paths)} tasks, one for each file of Django {django.__version__}")
            results = enqueue_many(index_file.s(str(path)) for path in paths)
            counts = collect(results, worker, self.stdout)
            check(paths, counts)
            self.stdout.write(table(paths, counts))

            self.stdout.write("Waiting for a schedule to fire")
            wait_for_notes(notes, beat)
            self.stdout.write(
                f"Beat sent, and the worker ran, {note_time.name} at {notes.read_text().split()[0]}"
            )
            self.stdout.write("Stopping both")
            beat.stop()
            worker.stop()


def find_files(limit: int | None) -> list[Path]:
    """Return the source and message files of the installed Django."""
    root = Path(django.__file__).parent
    found = sorted(path for path in root.rglob("*") if path.suffix in KINDS)
    return found[:limit]


def schedule_notes(logs: Path, cleanup: ExitStack) -> Path:
    """Have beat send `note_time` every second while the demo runs; return the file it writes to."""
    notes = logs / "notes.txt"
    notes.unlink(missing_ok=True)
    every_second, _ = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.SECONDS)
    entry = PeriodicTask.objects.create(
        name=f"demo {time.time_ns()}",
        task=note_time.name,
        interval=every_second,
        kwargs=f'{{"path": "{notes}"}}',
    )
    cleanup.callback(entry.delete)
    return notes


def wait_for_notes(notes: Path, beat: Service) -> None:
    """Return when the scheduled task has run."""
    deadline = time.monotonic() + PATIENCE
    while not notes.exists():
        beat.check()
        if time.monotonic() > deadline:
            raise CommandError(f"No schedule fired within {PATIENCE:g} seconds; see {beat.log_path}.")
        time.sleep(0.05)


def collect(results: Iterable[AsyncResult], worker: Service, screen: OutputWrapper) -> list[dict[str, int]]:
    """Return the results in order, drawing a progress bar as they come in."""
    waiting = list(results)
    counts = []
    for number, result in enumerate(waiting, start=1):
        counts.append(fetch(result, worker))
        draw_progress(number, len(waiting), screen)
    return counts


def fetch(result: AsyncResult, worker: Service) -> dict[str, int]:
    """Return the value of one result; notice within a second when the worker is gone."""
    deadline = time.monotonic() + PATIENCE
    while True:
        worker.check()
        with suppress(exceptions.TimeoutError):
            return result.get(timeout=1)
        if time.monotonic() > deadline:
            raise CommandError(f"Task {result.id} has no result after {PATIENCE:g} s; see {worker.log_path}.")


def draw_progress(done: int, total: int, screen: OutputWrapper, width: int = 40) -> None:
    """Draw the bar over itself; on what is no terminal, draw it once for every quarter."""
    full = width * done // total
    bar = f"  [{'#' * full}{'.' * (width - full)}] {done}/{total}"
    if screen.isatty():
        screen.write(f"\r{bar}", ending="\n" if done == total else "")
        screen.flush()
    elif done * 4 // total > (done - 1) * 4 // total:
        screen.write(bar)


def check(paths: Sequence[Path], counts: Sequence[dict[str, int]]) -> None:
    """Compare what the tasks found with a plain count of lines, file by file."""
    for path, found in zip(paths, counts, strict=True):
        lines = path.read_bytes().count(b"\n")
        if found["lines"] != lines:
            raise CommandError(f"{path} has {lines} lines, but its task returned {found!r}.")


def table(paths: Sequence[Path], counts: Sequence[dict[str, int]]) -> str:
    """Return the sums of each kind of file as a small table."""
    rows = [["", *COLUMNS]]
    for suffix, kind in KINDS.items():
        total = add_up(found for path, found in zip(paths, counts, strict=True) if path.suffix == suffix)
        rows.append([kind, *(f"{total[column]:,}" if column in total else "-" for column in COLUMNS)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(itertools.chain([row[0].ljust(widths[0])], map(str.rjust, row[1:], widths[1:])))
        for row in rows
    ]
    return "\n".join(["", *lines, ""])
