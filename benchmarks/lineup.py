"""Who is measured: each contender's group, its commands, and how its finished tasks are counted from outside.

A group is one kind of server; djqueue is first in each, for the ratios. Counting must not slow anybody down:
in databases it is one query by a reader, on Redis one command that takes the same time however many tasks
there are, every 20 ms over its own connection. Nobody counts for himself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from redis import Redis

from benchmarks.numbers import BROKER_DB, RESULT_DB

BULLMQ = Path(__file__).parent / "contenders" / "bullmq"


class Server:
    """What a contender works on: its directory, and a server's databases. A context manager.

    `held` are the directories in which its servers and its own files are, its own first.
    """

    def __init__(self, held: Sequence[Path], group: str, port: int | None = None) -> None:
        self.directory = held[0]
        self._held = held
        if group in ("redis", "rabbitmq"):
            self.broker = Redis(port=port, db=BROKER_DB)
            self.results = Redis(port=port, db=RESULT_DB)
        elif group == "postgres":
            where = f"postgresql://postgres@127.0.0.1:{port}/postgres"
            self._postgres = psycopg.connect(where, autocommit=True)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        if postgres := self.__dict__.get("_postgres"):
            postgres.close()

    def weight(self) -> int:
        """Return the bytes that everything kept takes: Redis' memory, and files but no logs."""
        memory = int(self.broker.info("memory")["used_memory"]) if "broker" in self.__dict__ else 0
        files = [path for top in self._held for path in top.rglob("*") if path.is_file()]
        kept = [path for path in files if path.suffix != ".log" and path.parent.name != "pg_wal"]
        return memory + sum(path.stat().st_size for path in kept)

    def number(self, query: str) -> int:
        """Return the number that the query gives on PostgreSQL."""
        return int(self._postgres.execute(query).fetchone()[0])

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
    "djqueue_postgres": Contender(
        "postgres",
        contender("djqueue_app"),
        python("django runworker -c 2 -l WARNING"),
        lambda on: on.number("SELECT count(*) FROM djqueue_results_taskresult WHERE status = 'SUCCESS'"),
        lambda on: on.number("SELECT count(*) FROM djqueue_message"),
        project="djqueue",
    ),
    "procrastinate": Contender(
        "postgres",
        contender("procrastinate_postgres"),
        python(
            "procrastinate --app=benchmarks.contenders.procrastinate_postgres.app worker --concurrency 10"
        ),
        lambda on: on.number("SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"),
    ),
    "django_tasks_db_postgres": Contender(
        "postgres",
        contender("django_tasks_db"),
        python("django db_worker --interval 0.01 --no-startup-delay -v 0"),
        lambda on: on.number(
            "SELECT count(*) FROM django_tasks_database_dbtaskresult WHERE status = 'SUCCESSFUL'"
        ),
        copies=2,
        project="django_tasks_db",
    ),
    "django_q2_postgres": Contender(
        "postgres",
        contender("django_q2"),
        python("django qcluster"),
        lambda on: on.number("SELECT count(*) FROM django_q_task WHERE success"),
        project="django_q2",
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
    # RabbitMQ does not say cheaply what is held, so nobody counts tasks without results there.
    "djqueue_rabbitmq": Contender(
        "rabbitmq",
        contender("djqueue_app"),
        python("django runworker -c 2 -l WARNING"),
        lambda on: int(on.results.dbsize()),
        project="djqueue",
    ),
    "celery_rabbitmq": Contender(
        "rabbitmq",
        contender("celery_redis"),
        python("celery -A benchmarks.contenders.celery_redis worker -c 2 -l WARNING"),
        lambda on: int(on.results.dbsize()),
    ),
    "dramatiq_rabbitmq": Contender(
        "rabbitmq",
        contender("dramatiq_redis"),
        python("dramatiq benchmarks.contenders.dramatiq_redis -p 2"),
        lambda on: int(on.results.dbsize()),
    ),
}
GROUPS = tuple(dict.fromkeys(one.group for one in CONTENDERS.values()))
