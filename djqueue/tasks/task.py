"""The class of all tasks, and how one gets into the registry.

Functions become tasks through the decorators, classes through `register_task`; both end in `adopt`, where the
name is found and the options are checked. What a task can do is told in four files, each building on the one
before: `declaration`, `handlers`, `running`, `calling`.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, ParamSpec, Self, TypeVar

from djqueue.core.registry import tasks
from djqueue.tasks.calling import Calling
from djqueue.tasks.declaration import default_name

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T", bound="Task[Any, Any]")


class Task(Calling[P, R]):
    """A task: something a worker runs when it is asked to by name.

    Subclass it to define `run` and register the class with `register_task`, or to share options, handlers and
    methods among tasks that name it as their `base`. There is one instance per task and process.
    """

    # Of the function, where there is one.
    __name__: str
    __wrapped__: Callable[..., Any]
    __signature__: inspect.Signature

    def wrap(self, function: Callable[..., Any], bind: bool) -> Self:
        """Make the function what this task runs; with `bind` it gets the task as its first argument."""
        functools.update_wrapper(self, function)
        self.is_bound = bind
        self.run = types.MethodType(function, self) if bind else function  # type: ignore[method-assign]
        self.__signature__ = inspect.signature(self.run)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return task_named, (self.name,)

    def __repr__(self) -> str:
        return f"<@task: {self.name}>"


def adopt(task: T, name: str | None = None) -> T:
    """Give the task its name, check its options, and return it, not yet registered.

    Raises:
        TypeError, ValueError: an option is wrong.
    """
    name = name or task.name or default_name(task.__dict__.get("__wrapped__", type(task)))
    if not isinstance(name, str):
        raise TypeError(f"The name of a task must be text; it is {name!r}.")
    task.name = name
    task.check()
    return task


def register_task(task: T | type[T]) -> T:
    """Register a class-based task, given as class or instance; return the instance.

    A later registration of the same name takes the place of an earlier one.

    Raises:
        TypeError: it is no task, or its class is abstract.
    """
    if isinstance(task, type):
        if not issubclass(task, Task):
            raise TypeError(f"register_task() takes a Task class or instance; it was given {task!r}.")
        if task.__dict__.get("abstract"):
            raise TypeError(f"{task.__qualname__} is abstract: it is a base of tasks and not one itself.")
        task = task()
    if not isinstance(task, Task):
        raise TypeError(f"register_task() takes a Task class or instance; it was given {task!r}.")
    adopted: T = adopt(task)
    tasks.register(adopted)
    return adopted


def task_named(name: str) -> Any:
    """Return the registered task of this name; pickled tasks come back this way."""
    return tasks[name]
