"""How a task is called: sent to a worker, sent on commit, run here, or made into a signature.

Arguments come in as the function takes them, typed; a handle leaves. Wrong arguments raise before anything
is sent. With TASK_ALWAYS_EAGER everything runs here and now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

from djqueue.canvas import sending
from djqueue.canvas.maps import chunks, xmap, xstarmap
from djqueue.canvas.signature import Signature
from djqueue.conf import settings
from djqueue.core.calls import Call
from djqueue.core.serialization import dumps, loads
from djqueue.result.eager import EagerResult
from djqueue.result.handles import AsyncResult
from djqueue.tasks import eager
from djqueue.tasks.replacing import Replacing

P = ParamSpec("P")
R = TypeVar("R")


class Calling(Replacing[P, R]):
    """The calling part of every task."""

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Send the task with these arguments."""
        return self.apply_async(args, kwargs)

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Do as `delay` does, without blocking the event loop."""
        return await self.aapply_async(args, kwargs)

    def delay_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Send the task when the open transaction commits, whatever TASK_ON_COMMIT says."""
        return self.apply_async(args, kwargs, on_commit=True)

    def apply_async(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        on_commit: bool | None = None,
        using: str | None = None,
        add_to_parent: bool = True,
        **options: Any,
    ) -> AsyncResult[R]:
        """Send the task with these arguments and options.

        `on_commit` decides instead of TASK_ON_COMMIT, `using` names the one database whose transaction is
        waited for. `add_to_parent` makes the task a child of the one that is running.

        Raises:
            TypeError: the arguments do not fit the function, or there is no such option.
            ValueError: an option has an impossible value.
            djqueue.exceptions.EncodeError: the arguments cannot be written.
            djqueue.exceptions.OperationalError: the broker could not be reached.
        """
        self._check_arguments(args, kwargs)
        if settings.TASK_ALWAYS_EAGER:
            return self._apply_eagerly(args, kwargs, options)
        return sending.send(
            self.plan, args, kwargs, options, on_commit=on_commit, using=using, add_to_parent=add_to_parent
        )

    async def aapply_async(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult[R]:
        """Do as `apply_async` does, without blocking the event loop."""
        return await sending.in_thread(self.apply_async, args, kwargs, **options)

    def apply_async_on_commit(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult[R]:
        """Do as `apply_async` does, when the open transaction commits."""
        return self.apply_async(args, kwargs, on_commit=True, **options)

    def apply(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        throw: bool | None = None,
        **options: Any,
    ) -> EagerResult[R]:
        """Run the task here and now, retries and what follows it included, and return a handle of its end.

        With `throw` (TASK_EAGER_PROPAGATES when not given) its exception is raised.
        """
        call = sending.prepare(self.plan, args, kwargs, options)
        return eager.run(self, call, settings.TASK_EAGER_PROPAGATES if throw is None else throw)

    def prepare(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Call:
        """Return the call that `apply_async` would send, after the same checks; `enqueue_many` sends many."""
        self._check_arguments(args, kwargs)
        return sending.prepare(self.plan, args, kwargs, options)

    def signature(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **how: Any
    ) -> Signature:
        """Return a call of this task that has not been made; `how` may be `immutable` and options."""
        return Signature(self.name, args, kwargs, **how)

    subtask = signature

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """Return the signature of a call with these arguments."""
        return Signature(self.name, args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """Return the signature of a call with these arguments and no others."""
        return Signature(self.name, args, kwargs, immutable=True)

    def map(self, it: Iterable[Any]) -> xmap:
        """Return the signature that runs this task on each item, one after the other, in one message."""
        return xmap(self.s(), it)

    def starmap(self, it: Iterable[Any]) -> xstarmap:
        """Return the signature that runs this task with each tuple of arguments, in one message."""
        return xstarmap(self.s(), it)

    def chunks(self, it: Iterable[Any], n: int) -> chunks:
        """Return the signature that runs this task with each tuple of arguments, `n` in a message."""
        return chunks(self.s(), it, n)

    def AsyncResult(self, task_id: str, **how: Any) -> AsyncResult[R]:  # noqa: N802  (Celery's name)
        """Return the handle of a call of this task by its id."""
        return AsyncResult(task_id, task_name=self.name, **how)

    def _check_arguments(self, args: Any, kwargs: Any) -> None:
        """Check arguments against the signature; what is no list of arguments is refused with the options.

        What follows a task is not checked: its sender has done its work, and the fault is not his.
        """
        if not self.typing or sending.is_following():
            return
        args, kwargs = args or (), kwargs or {}
        if isinstance(args, list | tuple) and isinstance(kwargs, Mapping):
            self.arguments(args, kwargs)

    def _apply_eagerly(self, args: Any, kwargs: Any, options: dict[str, Any]) -> EagerResult[R]:
        """Run with arguments that went through the serializer, so that what cannot be sent is found out."""
        call = sending.prepare(self.plan, args, kwargs, options)
        serializer = call.serializer or self.option("serializer")
        content_type, encoding, body = dumps([call.args, call.kwargs], serializer)
        call.args, call.kwargs = loads(body, content_type, encoding, accept=None)
        return eager.run(self, call, settings.TASK_EAGER_PROPAGATES)
