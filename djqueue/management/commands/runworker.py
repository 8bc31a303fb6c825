"""`manage.py runworker`: run tasks until told to stop.

The flags are those of Celery's worker that apply. Mistakes in flags or settings are told together before
anything starts. The exit code is 0 after a clean stop, 1 when the worker could not start or lost its pool.
"""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from djqueue.core.registry import load_tasks
from djqueue.exceptions import DjqueueError
from djqueue.log import set_up_worker_logging
from djqueue.worker import log_lines
from djqueue.worker.options import LOG_LEVELS, worker_options
from djqueue.worker.pools import POOL_KINDS, NurseryLost
from djqueue.worker.service import Worker


class Command(BaseCommand):
    """Start a worker in the foreground; TERM or INT stops it cleanly, a second one at once."""

    help = "Runs djqueue tasks: takes messages from the broker, runs them in child processes, stores results."
    requires_migrations_checks = True

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("-Q", "--queues", metavar="NAMES", help="queues to consume, separated by commas")
        add("-X", "--exclude-queues", metavar="NAMES", help="queues of --queues not to consume")
        add("-c", "--concurrency", type=int, metavar="N", help="children or threads (default: usable CPUs)")
        add("--autoscale", metavar="MAX,MIN", help="let the pool grow and shrink with the work at hand")
        add("-P", "--pool", metavar="KIND", help=f"how tasks run: {', '.join(POOL_KINDS)}")
        add("-n", "--hostname", metavar="NAME", help="the worker's name; %%h host, %%n name, %%d domain")
        add("-l", "--loglevel", metavar="LEVEL", help=f"one of {', '.join(LOG_LEVELS)} (default: INFO)")
        add("-f", "--logfile", metavar="PATH", help="write the log there instead of standard error")
        add("-B", "--beat", action="store_true", help="also send the tasks of schedules that are due")
        add("-E", "--task-events", "--events", action="store_true", help="send events about tasks")
        add("--without-mingle", action="store_true", help="do not ask other workers what they know")
        add("--without-heartbeat", action="store_true", help="do not tell monitors that the worker lives")
        add("--heartbeat-interval", type=float, metavar="SECONDS", help="tell them so often (default: 2)")
        add("--prefetch-multiplier", type=int, metavar="N", help="most messages held per child; 0: adaptive")
        add("--max-tasks-per-child", type=int, metavar="N", help="replace a child after so many tasks")
        add("--max-memory-per-child", type=int, metavar="KIB", help="replace a child that grew beyond this")
        add("--time-limit", type=float, metavar="SECONDS", help="kill a task after this time")
        add("--soft-time-limit", type=float, metavar="SECONDS", help="raise SoftTimeLimitExceeded in it")
        add("--pidfile", metavar="PATH", help="write the process number there while running")
        add("--purge", action="store_true", help="delete what waits in the queues before starting")
        add("--check", action="store_true", help="check flags and settings, start nothing")

    def handle(self, *args: Any, **given: Any) -> None:
        """Check, start, and return when the worker has stopped."""
        try:
            load_tasks()
            options = worker_options(given)
            if given["check"]:
                self.stdout.write("The worker could start with these options and settings.")
                return
            set_up_worker_logging(options.loglevel, options.logfile)
            Worker(options, say=self._say).run()
        except NurseryLost as error:
            log_lines.nursery_lost(str(error))
            sys.exit(1)
        except DjqueueError as error:
            raise CommandError(str(error)) from error

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
