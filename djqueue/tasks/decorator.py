"""Functions into tasks: `@shared_task`, bare or with options.

A function comes in when its module is imported; a real `Task` leaves, registered, with every option checked.
No setting is read.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, overload

from django.utils.module_loading import import_string

from djqueue.core.registry import tasks
from djqueue.exceptions import DuplicateTaskNameWarning
from djqueue.tasks.declaration import default_name
from djqueue.tasks.options import checked
from djqueue.tasks.task import Task, adopt

P = ParamSpec("P")
R = TypeVar("R")


class Decorates(Protocol):
    """What `@shared_task(…)` gives: the task of a coroutine function has the result of awaiting it."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class DecoratesBound(Protocol):
    """The same with `bind=True`: callers do not see the first argument."""

    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> Task[P, R]: ...

    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> Task[P, R]: ...


@overload
def shared_task(function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...


@overload
def shared_task(function: Callable[P, R], /) -> Task[P, R]: ...


@overload
def shared_task(
    *,
    bind: Literal[True],
    name: str | None = ...,
    base: type[Task[..., Any]] | str | None = ...,
    **options: Any,
) -> DecoratesBound: ...


@overload
def shared_task(
    *, name: str | None = ..., base: type[Task[..., Any]] | str | None = ..., **options: Any
) -> Decorates: ...


def shared_task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    bind: bool = False,
    base: type[Task[..., Any]] | str | None = None,
    **options: Any,
) -> Any:
    """Make a task of the function.

    `name` is `<module>.<function>` when not given. With `bind` the function gets the task as its first
    argument. `base` is the class of the task, or its dotted path. Every other option is listed in
    `djqueue.tasks.options`.

    Raises:
        TypeError: there is no such option, or this is not a function.
        ValueError: an option has a value it cannot have.
    """

    def decorate(function: Callable[..., Any]) -> Task[..., Any]:
        return _make(function, name, bind, base, options)

    if function is None:
        return decorate
    return decorate(function)


#: The same; `app.task` is it, too.
task = shared_task


def _make(
    function: Callable[..., Any],
    name: str | None,
    bind: bool,
    base: type[Task[..., Any]] | str | None,
    options: dict[str, Any],
) -> Task[..., Any]:
    if not callable(function) or isinstance(function, type | Task):
        raise TypeError(
            f"A task is made of a function; @shared_task was given {function!r}. Options are given by name, "
            "and classes are registered with register_task()."
        )
    name = name or default_name(function)
    if not isinstance(bind, bool):
        raise TypeError(f"Task {name}: the option bind must be True or False; it is {bind!r}.")
    kind = _base_class(base, name)
    own = [attribute for attribute in options if hasattr(kind, attribute)]
    values = checked(options, f"Task {name}", allowed=own)
    existing = tasks.get(name)
    if existing is not None:
        return _first_one(existing, function)
    made = kind().wrap(function, bind)
    for option, value in values.items():
        setattr(made, option, value)
    tasks.register(adopt(made, name))
    return made


def _base_class(base: Any, name: str) -> type[Task[..., Any]]:
    if base is None:
        return Task
    found = import_string(base) if isinstance(base, str) else base
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise TypeError(f"Task {name}: base must be a subclass of Task, or its dotted path; it is {base!r}.")
    return found


def _first_one(existing: Task[..., Any], function: Callable[..., Any]) -> Task[..., Any]:
    """Return the task that has the name already; warn when it was made of another function."""
    first = existing.__dict__.get("__wrapped__")
    if _origin(first) != _origin(function):
        warnings.warn(
            f"There is a task named {existing.name!r} already, made of {_origin(first)}; that of "
            f"{_origin(function)} is ignored. Give one of them another name=.",
            DuplicateTaskNameWarning,
            stacklevel=4,
        )
    return existing


def _origin(function: Any) -> str:
    code = getattr(function, "__code__", None)
    place = f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)
    return f"{getattr(function, '__module__', None)}.{getattr(function, '__qualname__', None)} ({place})"
