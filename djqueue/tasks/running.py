"""What a task can do while it runs: know its request, set its state, ask to be run again, be called.

Tasks call this on `self`. States travel to the worker at once; a retry is a `Retry` that execution catches,
and its message leaves together with the outcome of this run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar

from djqueue.canvas import sending
from djqueue.canvas.signature import Signature
from djqueue.core.requests import Request, current_request, running
from djqueue.core.retrying import may_retry
from djqueue.exceptions import MaxRetriesExceededError, Retry
from djqueue.result import backends, records
from djqueue.result.facade import Backend
from djqueue.tasks.handlers import Handlers

P = ParamSpec("P")
R = TypeVar("R")

#: Headers that brokers put on, and that a new message must not have.
_OF_BROKERS = frozenset(
    {
        *("x-death", "x-delivery-count", "x-djq-unknown", "x-djq-unseen", "x-first-death-queue"),
        "redelivered",
    }
)


class Running(Handlers, Generic[P, R]):
    """The running part of every task."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function here, as a function: no message, no result, no retries.

        A subclass may override this to put something around every run.
        """
        request = current_request()
        if request is not None and request.task == self.name and request.__dict__.get("is_entering"):
            request.is_entering = False  # execution comes in through an overridden __call__
            value: R = self.run(*args, **kwargs)
            return value
        called = Request(task=self.name, called_directly=True, args=args, kwargs=kwargs, enclosing=request)
        if self.is_coroutine():
            return self._awaited(called, args, kwargs)  # type: ignore[return-value]  # R is the coroutine
        with running(called):
            value = self.run(*args, **kwargs)
        return value

    @property
    def body(self) -> Callable[..., Any]:
        """What execution calls: `run`, or the task itself when a subclass overrides `__call__`."""
        return self.run if type(self).__call__ is Running.__call__ else self

    @property
    def request(self) -> Request:
        """The run of this task that goes on here; outside of one, a request with Celery's defaults."""
        request = current_request()
        if request is None or request.task != self.name:
            return Request(task=self.name)
        return request

    @property
    def backend(self) -> Backend:
        """The result store, under Celery's names."""
        return Backend(backends.backend())

    def update_state(self, task_id: str | None = None, state: str | None = None, meta: Any = None) -> None:
        """Set the task's state, such as PROGRESS, with `meta` as its result until it ends.

        Raises:
            TypeError: no state is given.
            RuntimeError: called outside of a run, without an id.
        """
        if not state:
            raise TypeError("update_state() needs a state, such as update_state(state='PROGRESS', meta={…}).")
        request = self.request
        if request.report is not None and task_id in (None, request.id):
            request.report(state, meta)
            return
        if task_id is None:
            if request is current_request():  # called as a function: nobody could ask for the state
                return
            raise RuntimeError(f"{self.name} is not being run here: update_state() needs a task_id.")
        records.set_from_outside(backends.backend(), task_id, state, meta)

    async def aupdate_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None
    ) -> None:
        """Do as `update_state` does, without blocking the event loop."""
        await sending.in_thread(self.update_state, task_id, state, meta)

    def retry(
        self,
        args: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | str | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Ask for another run of this call, in `countdown` seconds or at `eta`; raise the `Retry`.

        What is given replaces what the call had. With `throw=False` the `Retry` is returned instead.

        Raises:
            BaseException: `exc`, or the exception being handled, when the task was tried often enough.
            djqueue.exceptions.MaxRetriesExceededError: the same, when there is no exception.
        """
        request = self.request
        if request.called_directly:
            _reraise(exc, Retry("Task can be retried", exc))
        most = self.option("max_retries") if max_retries is None else max_retries
        if not may_retry(request.retries, most):
            _reraise(exc, self._exhausted(request, most, args, kwargs))
        if eta is None and countdown is None:
            countdown = self.option("default_retry_delay")
        when = countdown if eta is None else eta
        again = self.signature_from_request(request, args, kwargs, countdown=countdown, eta=eta, **options)
        retry = Retry(exc=exc, when=when, is_eager=request.is_eager, sig=again)
        if throw:
            raise retry
        request.__dict__.setdefault("retries_asked", []).append(retry)
        return retry

    def signature_from_request(
        self,
        request: Request | None = None,
        args: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Signature:
        """Return the signature of the next try of a run: same id, one more retry, everything else kept."""
        request = self.request if request is None else request
        kept = {
            "task_id": request.id,
            "retries": request.retries + 1,
            "root_id": request.root_id,
            "group_id": request.group,
            "group_index": request.group_index,
            "chord": request.chord,
            "chain": request.chain,
            "link": request.callbacks,
            "link_error": request.errbacks,
            "expires": request.expires,
            "reply_to": request.reply_to,
            "shadow": request.shadow,
            "ignore_result": request.ignore_result,
            "replaced_task_nesting": request.replaced_task_nesting or None,
            "serializer": request.serializer,
            "compression": request.compression,
            "headers": _kept_headers(request),
            **_limits(request),
            **_stamps(request),
            **_place(request),
        }
        if options.keys() & {"queue", "exchange", "routing_key"}:
            for name in ("queue", "exchange", "routing_key"):
                kept.pop(name, None)
        chosen = {name: value for name, value in {**kept, **options}.items() if value is not None}
        return Signature(
            self.name,
            request.args if args is None else args,
            request.kwargs if kwargs is None else kwargs,
            options=chosen,
        )

    def add_trail(self, result: Any) -> Any:
        """Make the task of this handle a child of the one that runs, and return the handle."""
        children = self.request.children
        if children is not None:
            children.append(result)
        return result

    async def _awaited(self, called: Request, args: Any, kwargs: Any) -> Any:
        with running(called):
            return await self.run(*args, **kwargs)

    def _exhausted(
        self, request: Request, most: int | None, args: Any, kwargs: Mapping[str, Any] | None
    ) -> MaxRetriesExceededError:
        return MaxRetriesExceededError(
            f"{self.name}[{request.id}] was retried {request.retries} times and may be {most} times.",
            task_args=request.args if args is None else args,
            task_kwargs=request.kwargs if kwargs is None else kwargs,
        )


def _reraise(exc: BaseException | None, otherwise: BaseException) -> NoReturn:
    """Raise the exception given, else the one being handled, else `otherwise`."""
    handled = sys.exc_info()[1]
    if exc is None:
        exc = handled or otherwise
    if exc is handled:
        raise exc
    raise exc from handled


def _kept_headers(request: Request) -> dict[str, Any] | None:
    stamps = request.stamps or {}
    headers = {
        name: value
        for name, value in (request.headers or {}).items()
        if name not in _OF_BROKERS and name not in stamps
    }
    return headers or None


def _limits(request: Request) -> dict[str, Any]:
    return {"time_limit": request.time_limit, "soft_time_limit": request.soft_time_limit}


def _stamps(request: Request) -> dict[str, Any]:
    names = request.stamped_headers
    if not names:
        return {}
    stamps = request.stamps or {}
    return {"stamped_headers": list(names), **{name: stamps.get(name) for name in names}}


def _place(request: Request) -> dict[str, Any]:
    """Return where the message came from, and with what priority."""
    info = request.delivery_info or {}
    place: dict[str, Any] = {"priority": (request.properties or {}).get("priority", info.get("priority"))}
    if info.get("exchange"):
        place |= {"exchange": info["exchange"], "routing_key": info.get("routing_key")}
    else:
        place["queue"] = info.get("routing_key") or info.get("queue")
    return place
