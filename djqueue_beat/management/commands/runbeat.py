"""`manage.py runbeat`: send the tasks of schedules when they are due, until told to stop.

Any number may run at the same time, also beside `runworker --beat`: each slot is sent once. TERM and INT end
it between two rounds; the exit code is then 0, and 1 when a flag is wrong.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from djqueue.conf import settings
from djqueue.core.registry import load_tasks
from djqueue.exceptions import DjqueueError
from djqueue.log import set_up_worker_logging
from djqueue_beat import log_lines
from djqueue_beat.service import LONGEST_PAUSE, Beat
from djqueue_beat.sleeper import Sleeper

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class Command(BaseCommand):
    """Run a beat in the foreground."""

    help = "Sends the tasks of djqueue's schedules when they are due. Any number may run at once."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("-l", "--loglevel", metavar="LEVEL", help=f"one of {', '.join(LOG_LEVELS)} (default: INFO)")
        add("-f", "--logfile", metavar="PATH", help="write the log there instead of standard error")
        add(
            "--max-interval",
            type=float,
            metavar="SECONDS",
            help=f"longest pause between two looks at the tables (default: {LONGEST_PAUSE:g})",
        )

    def handle(self, *args: Any, **given: Any) -> None:
        """Start, and return when told to stop."""
        level = str(given["loglevel"] or "INFO").upper()
        if level not in LOG_LEVELS:
            raise CommandError(f"--loglevel is {level}; give one of {', '.join(LOG_LEVELS)}.")
        pause = given["max_interval"]
        if pause is not None and pause <= 0:
            raise CommandError(f"--max-interval is {pause:g}; give seconds above 0.")
        set_up_worker_logging(
            logging.getLevelNamesMapping()[level], Path(given["logfile"]) if given["logfile"] else None
        )
        try:
            load_tasks()
            self._run(pause)
        except DjqueueError as error:
            raise CommandError(str(error)) from error

    def _run(self, pause: float | None) -> None:
        facts = (
            ("time zone", str(settings.timezone())),
            ("looks every", f"{pause or settings.BEAT_MAX_LOOP_INTERVAL or LONGEST_PAUSE:g} s or when due"),
            ("from settings", f"{len(settings.BEAT_SCHEDULE)} entries in BEAT_SCHEDULE"),
        )
        with Sleeper() as sleeper:
            beat = Beat(max_interval=pause)
            self.stdout.write(log_lines.banner(facts))
            self.stdout.flush()
            beat.start()
            try:
                while sleeper.asked_to_stop is None:
                    sleeper.sleep(beat.tick(time.monotonic()))
                log_lines.stopping(sleeper.asked_to_stop)
            finally:
                beat.stop()
