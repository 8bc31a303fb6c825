"""Who is measured: each contender's group, its commands, and how its finished tasks are counted from outside.

A group is one kind of server; djqueue is first in each, for the ratios. Counting must not slow anybody down:
on SQLite it is one query by a reader, on Redis one command that takes the same time however many tasks there
are, every 20 ms over its own connection. Nobody counts for himself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

#: database numbers, for all who can keep the two apart
BROKER_DB, RESULT_DB = 0, 1

BULLMQ = Path(__file__).parent / "contenders" / "bullmq"


class Server:
    """What a round's contender works on: its directory, and on Redis the server's two databases."""

    def __init__(self, directory: Path, port: int | None = None) -> None:
        self.directory = directory
        if port is not None:
            self.broker = Redis(port=port, db=BROKER_DB)
            self.results = Redis(port=port, db=RESULT_DB)

    def rows(self, name: str, query: str) -> int:
        """Return the number that the query gives on one of the directory's SQLite files."""
        connection = sqlite3.connect(f"file:{self.directory / name}?mode=ro", uri=True, timeout=30)
        try:
            return int(connection.execute(query).fetchone()[0])
        except sqlite3.OperationalError:  # Celery makes its table with the first result
            return 0
        finally:
            connection.close()

    def total(self, *commands: str) -> int:
        """Return the sum of what the commands answer on the broker's database."""
        return sum(int(self._broker_says(command)) for command in commands)

    def _broker_says(self, command: str) -> Any:
        return self.broker.execute_command(*command.split())


@dataclass(frozen=True)
class Contender:
    """`done` counts the stored results, `left` the tasks that are queued or held; None where nobody asks."""

    group: str
    #: what one verb is appended to
    verbs: tuple[str, ...]
    #: the worker, and how many of it
    worker: tuple[str, ...]
    done: Callable[[Server], int]
    left: Callable[[Server], int] | None = None
    copies: int = 1
    #: the name by which the Django project knows it
    project: str = ""
    #: what has to be there, and how it gets there
    needs: Path | None = None
    remedy: str = ""


def python(words: str) -> tuple[str, ...]:
    """Return a command that runs a module with this very Python."""
    return ("{python}", "-m", *words.split())


def contender(name: str) -> tuple[str, ...]:
    """Return the command of a contender's own module."""
    return python(f"benchmarks.contenders.{name}")


CONTENDERS = {
    "djqueue_sqlite": Contender(
        "sqlite",
        contender("djqueue_app"),
        python("django runworker -c 2 -l WARNING"),
        lambda on: on.rows(
            "bench.sqlite3", "SELECT count(*) FROM djqueue_results_taskresult WHERE status = 'SUCCESS'"
        ),
        lambda on: on.rows("bench.sqlite3", "SELECT count(*) FROM djqueue_message"),
        project="djqueue",
    ),
    "celery_sqlite": Contender(
        "sqlite",
        contender("celery_sqlite"),
        python("celery -A benchmarks.contenders.celery_sqlite worker -c 2 -l WARNING"),
        lambda on: on.rows(
            "results.sqlite3", "SELECT count(*) FROM celery_taskmeta WHERE status = 'SUCCESS'"
        ),
        lambda on: on.rows("broker.sqlite3", "SELECT count(*) FROM kombu_message WHERE visible"),
    ),
    "django_tasks_db": Contender(
        "sqlite",
        contender("django_tasks_db"),
        python("django db_worker --interval 0.01 --no-startup-delay -v 0"),
        lambda on: on.rows(
            "bench.sqlite3",
            "SELECT count(*) FROM django_tasks_database_dbtaskresult WHERE status = 'SUCCESSFUL'",
        ),
        project="django_tasks_db",
    ),
    "djqueue_redis": Contender(
        "redis",
        contender("djqueue_app"),
        python("django runworker -c 2 -l WARNING"),
        lambda on: int(on.results.dbsize()),
        lambda on: on.total("LLEN default", "HLEN unacked"),
        project="djqueue",
    ),
    "celery_redis": Contender(
        "redis",
        contender("celery_redis"),
        python("celery -A benchmarks.contenders.celery_redis worker -c 2 -l WARNING"),
        lambda on: int(on.results.dbsize()),
        lambda on: on.total("LLEN celery", "HLEN unacked"),
    ),
    "dramatiq_redis": Contender(
        "redis",
        contender("dramatiq_redis"),
        python("dramatiq benchmarks.contenders.dramatiq_redis -p 2"),
        lambda on: int(on.results.dbsize()),
        lambda on: on.total("HLEN dramatiq:default.msgs"),
    ),
    "huey_redis": Contender(
        "redis",
        contender("huey_redis"),
        python("huey.bin.huey_consumer benchmarks.contenders.huey_tasks.huey -k process -w 2 -q"),
        lambda on: on.total("HLEN huey.results.bench"),
        lambda on: on.total("LLEN huey.redis.bench"),
    ),
    "bullmq": Contender(
        "redis",
        ("node", str(BULLMQ / "verbs.mjs")),
        ("node", str(BULLMQ / "worker.mjs")),
        lambda on: on.total("ZCARD bull:bench:completed"),
        lambda on: on.total("LLEN bull:bench:wait", "LLEN bull:bench:active"),
        copies=2,
        needs=BULLMQ / "node_modules",
        remedy="npm install --prefix benchmarks/contenders/bullmq",
    ),
}
GROUPS = tuple(dict.fromkeys(one.group for one in CONTENDERS.values()))
