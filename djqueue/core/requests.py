"""Who is being run: the request that tasks see as `self.request`, and the variable that holds it.

`protocol.read_headers` makes a `Request` from a message; execution adds the arguments and puts it into
the ContextVar while user code runs. Everything that wants to know the running task asks `current_request`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any

#: Celery's names and defaults for a request (protocol 2 headers and what execution adds).
DEFAULTS: dict[str, Any] = {
    "id": None,
    "task": None,
    "args": None,
    "kwargs": None,
    "retries": 0,
    "attempt": 0,
    "starts": 0,
    "is_eager": False,
    "called_directly": True,
    "hostname": None,
    "delivery_info": None,
    "properties": None,
    "headers": None,
    "root_id": None,
    "parent_id": None,
    "group": None,
    "group_index": None,
    "chord": None,
    "chain": None,
    "callbacks": None,
    "errbacks": None,
    "children": None,
    "correlation_id": None,
    "reply_to": None,
    "origin": None,
    "eta": None,
    "expires": None,
    "timelimit": None,
    "time_limit": None,
    "soft_time_limit": None,
    "utc": True,
    "argsrepr": None,
    "kwargsrepr": None,
    "shadow": None,
    "lang": None,
    "ignore_result": None,
    "replaced_task_nesting": 0,
    "stamped_headers": None,
    "stamps": None,
    "compression": None,
    "taskset": None,
    "meth": None,
    "loglevel": None,
    "logfile": None,
    "enclosing": None,
    "join_allowed": False,
    "outbox": None,
    "serializer": None,
}


class Request:
    """One run of a task. Every name of `DEFAULTS` is an attribute, and so is any other header.

    `report` is how the running task sets a state: called with `(state, meta)`; None when nobody listens.
    `attempt` orders results: a later retry or redelivery has a larger one. `enclosing` is the request of the
    task that called this one as a function or ran it eagerly. `outbox`, when it is a list, collects what is
    sent instead of publishing it.
    """

    report: Callable[[str, Any], None] | None = None

    # What is set after the request was made; unset ones are answered by `__getattr__`.
    hostname: str | None
    args: Any
    kwargs: Any
    argsrepr: str | None
    kwargsrepr: str | None
    callbacks: list[Any] | None
    errbacks: list[Any] | None
    chain: list[Any] | None
    chord: Any
    children: list[Any] | None
    serializer: str | None
    outbox: list[Any] | None
    join_allowed: bool
    is_entering: bool
    #: the task's own code runs now; only then is a soft time limit raised in it
    in_user_code: bool = False

    def __init__(self, **known: Any) -> None:
        self.__dict__ = known  # a fresh dictionary already: one is made for every message

    def __getattr__(self, name: str) -> Any:
        # Only reached for names that were not set: Celery's default, then any header of that name.
        if name in DEFAULTS:
            return DEFAULTS[name]
        headers = self.__dict__.get("headers")
        if headers and name in headers:
            return headers[name]
        raise AttributeError(f"The request has no {name!r}: neither an attribute nor a header of that name.")

    def get(self, name: str, default: Any = None) -> Any:
        """Return the attribute or header `name`, or `default`."""
        return getattr(self, name, default)

    def __repr__(self) -> str:
        return f"<Request {self.task}[{self.id}]>"


_current: ContextVar[Request | None] = ContextVar("djqueue_request", default=None)


def current_request() -> Request | None:
    """Return the request being run in this thread or coroutine, or None."""
    return _current.get()


def task_request() -> Request | None:
    """Return the request of the task run here, by a worker or eagerly, but not called as a function."""
    request = _current.get()
    while request is not None and request.called_directly:
        request = request.enclosing
    return request


def worker_request() -> Request | None:
    """Return the request of the task that a worker runs here, not of what that calls or runs eagerly."""
    request = _current.get()
    while request is not None and (request.called_directly or request.is_eager):
        request = request.enclosing
    return request


class running:  # noqa: N801  (read as a word: `with running(request)`)
    """Make `request` the current one inside the block; blocks nest."""

    # A class, not a generator: it is entered for every task.
    __slots__ = ("_request", "_token")
    _token: Token[Request | None]

    def __init__(self, request: Request) -> None:
        self._request = request

    def __enter__(self) -> Request:
        self._token = _current.set(self._request)
        return self._request

    def __exit__(self, *error: object) -> None:
        _current.reset(self._token)


def attempt_number(retries: int, starts: int) -> int:
    """Return the number that orders results: later retries first, then later starts of the same one."""
    return (retries << 16) | min(starts, 0xFFFF)
