"""What a task's result is, and the handles that callers hold.

Where results are kept is up to a backend, found by its name in the settings.
"""

from __future__ import annotations

from djqueue.result.eager import EagerResult
from djqueue.result.groups import GroupResult, ResultSet, result_from_tuple
from djqueue.result.handles import AsyncResult
from djqueue.result.joining import allow_join_result

__all__ = [
    "AsyncResult",
    "EagerResult",
    "GroupResult",
    "ResultSet",
    "allow_join_result",
    "result_from_tuple",
]
