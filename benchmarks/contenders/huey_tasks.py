"""The tasks that huey is measured with, in a module of which its consumer knows them by name.

One consumer with two worker processes runs them; it takes a task off its list before it is run.
"""

from __future__ import annotations

import os

from huey import RedisHuey  # type: ignore[import-untyped]

from benchmarks.numbers import BROKER_DB

huey = RedisHuey("bench", url=f"{os.environ['BENCH_REDIS']}/{BROKER_DB}")


@huey.task()
def nothing(number: int) -> int:
    """Return the number."""
    return number


@huey.task()
def ignored(number: int) -> None:
    """Return nothing, so that nothing is stored."""
