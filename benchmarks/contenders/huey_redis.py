"""huey on Redis, results in the same database.

It runs without Django, which flatters its memory and its start.
"""

from __future__ import annotations

from typing import Any

from benchmarks.contenders.huey_tasks import ignored, nothing
from benchmarks.contenders.verbs import Verbs


def wait(result: Any) -> None:
    """Wait for one result, asking as often as a hurried user would."""
    result.get(blocking=True, timeout=30, backoff=1.0, max_delay=0.001)


if __name__ == "__main__":
    Verbs(send=nothing, wait=wait, send_ignored=ignored).run()
