"""`manage.py djqueue <subcommand>`: see and steer workers, from a shell or a script.

Each subcommand lives in a file of `djqueue/management/subcommands/`. Exit codes: 0 it worked, 1 it did not,
2 the command line cannot be read, 69 nobody answered.
"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from djqueue.core.registry import load_tasks
from djqueue.exceptions import DjqueueError
from djqueue.management.subcommands import control, events


class Command(BaseCommand):
    """Finds the subcommand and runs it."""

    help = "Looks at djqueue's workers and steers them."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the subcommands."""
        rooms = parser.add_subparsers(dest="subcommand", metavar="subcommand", required=True)
        control.add(rooms)
        events.add(rooms)

    def handle(self, *args: Any, **given: Any) -> None:
        """Run the subcommand."""
        try:
            load_tasks()  # projects declare commands of their own beside their tasks
            given["run"](given, self._say)
        except DjqueueError as error:
            raise CommandError(str(error)) from error

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
