"""What a task's result is, and the handles that callers hold; where it is kept is up to a backend."""

from __future__ import annotations

from djqueue.result.eager import EagerResult
from djqueue.result.handles import AsyncResult, allow_join_result, result_from_tuple

__all__ = ["AsyncResult", "EagerResult", "allow_join_result", "result_from_tuple"]
