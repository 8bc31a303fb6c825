"""Who is being run: the request that tasks see as `self.request`, and the variable that holds it.

`protocol.read_headers` makes a `Request` from a message; execution adds the arguments and puts it into
the ContextVar while user code runs. Everything that wants to know the running task asks `current_request`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any, Self

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
    "serializer": None,
}


class Request:
    """One run of a task. Every name of `DEFAULTS` is an attribute, and so is any other header.

    `report` is how the running task sets a state: called with `(state, meta)`; None when nobody listens.
    `attempt` orders results: a later retry or redelivery has a larger one. `enclosing` is the request of the
    task that called this one as a function or ran it eagerly.
    """

    report: Callable[[str, Any], None] | None = None

    # What is set after the request was made.
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
    join_allowed: bool
    is_entering: bool
    #: the task's own code runs now; only then is a soft time limit raised in it
    in_user_code: bool = False

    def __init__(self, **known: Any) -> None:
        self.__dict__ = known

    @classmethod
    def of(cls, known: dict[str, Any]) -> Self:
        """Return a request that keeps what it knows in this very dictionary, which is the quickest way."""
        request = cls.__new__(cls)
        request.__dict__ = known
        return request

    def __getattr__(self, name: str) -> Any:
        # Only reached for names that were not set and have no default: any header of that name.
        headers = self.__dict__.get("headers")
        if headers and name in headers:
            return headers[name]
        raise AttributeError(f"The request has no {name!r}: neither an attribute nor a header of that name.")

    def get(self, name: str, default: Any = None) -> Any:
        """Return the attribute or header `name`, or `default`."""
        return getattr(self, name, default)

    def __repr__(self) -> str:
        return f"<Request {self.task}[{self.id}]>"


for _name, _default in DEFAULTS.items():
    setattr(Request, _name, _default)


class Outbox:
    """While this is the current one, what is sent goes into `batch`. `enclosing` is the request around it."""

    __slots__ = ("batch", "enclosing")

    def __init__(self, batch: Any) -> None:
        self.batch = batch
        self.enclosing = current_request()


_current: ContextVar[Request | Outbox | None] = ContextVar("djqueue_request", default=None)


def current_request() -> Request | None:
    """Return the request being run in this thread or coroutine, or None."""
    current = _current.get()
    return current.enclosing if type(current) is Outbox else current  # type: ignore[return-value]


def current_batch() -> Any:
    """Return what collects the calls that are sent here, or None when they are sent at once."""
    current = _current.get()
    return current.batch if type(current) is Outbox else None


def task_request() -> Request | None:
    """Return the request of the task run here, by a worker or eagerly, but not called as a function."""
    request = current_request()
    while request is not None and request.called_directly:
        request = request.enclosing
    return request


def worker_request() -> Request | None:
    """Return the request of the task that a worker runs here, not of what that calls or runs eagerly."""
    request = current_request()
    while request is not None and (request.called_directly or request.is_eager):
        request = request.enclosing
    return request


class running:  # noqa: N801  (read as a word: `with running(request)`)
    """Make `request`, or an outbox, the current one inside the block; blocks nest."""

    # A class, not a generator: it is entered for every task.
    __slots__ = ("_request", "_token")
    _token: Token[Request | Outbox | None]

    def __init__(self, request: Request | Outbox) -> None:
        self._request = request

    def __enter__(self) -> Request | Outbox:
        self._token = _current.set(self._request)
        return self._request

    def __exit__(self, *error: object) -> None:
        _current.reset(self._token)


def attempt_number(retries: int, starts: int) -> int:
    """Return the number that orders results: later retries first, then later starts of the same one."""
    return (retries << 16) | min(starts, 0xFFFF)
