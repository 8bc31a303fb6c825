"""What a task class may do when a run begins and ends: methods to override, which do nothing here.

Execution calls them in the process that runs the task, while `self.request` is the run's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from djqueue.tasks.declaration import Declaration
from djqueue.tasks.failures import ExceptionInfo

Args = Sequence[Any]
Kwargs = Mapping[str, Any]


class Handlers(Declaration):
    """The handlers of every task. What one raises is logged and changes nothing, save in `before_start`."""

    def before_start(self, task_id: str, args: Args, kwargs: Kwargs) -> None:
        """Do something before the task runs; an exception here is the task's failure."""

    def on_success(self, retval: Any, task_id: str, args: Args, kwargs: Kwargs) -> None:
        """Do something after the task returned."""

    def on_failure(
        self, exc: BaseException, task_id: str, args: Args, kwargs: Kwargs, einfo: ExceptionInfo
    ) -> None:
        """Do something after the task failed for good."""

    def on_retry(
        self, exc: BaseException, task_id: str, args: Args, kwargs: Kwargs, einfo: ExceptionInfo
    ) -> None:
        """Do something after a retry was asked for."""

    def after_return(
        self,
        status: str,
        retval: Any,
        task_id: str,
        args: Args,
        kwargs: Kwargs,
        einfo: ExceptionInfo | None,
    ) -> None:
        """Do something after the task returned or failed; `retval` is the result or the exception."""
