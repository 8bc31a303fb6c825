"""The tasks of this process by name, and how their modules are found.

Declaring a task registers it; callers, admission and execution look it up. A name that nobody registered is
answered with the names that are nearly the same. Names in messages are only ever looked up here, never
imported.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from django.apps import apps

from djqueue.conf import settings
from djqueue.exceptions import NotRegistered


class Registry(dict[str, Any]):
    """A dictionary from task name to task; a missing name raises `NotRegistered`."""

    def __missing__(self, name: object) -> Any:
        raise NotRegistered(name, self.near(name))

    def register(self, task: Any) -> Any:
        """Add the task under its name and return it; a later one of the same name takes its place.

        Raises:
            ValueError: the task has no name.
        """
        name = getattr(task, "name", None)
        if not isinstance(name, str) or not name:
            raise ValueError(f"{task!r} cannot be registered: its `name` is {name!r}; give it one.")
        self[name] = task
        return task

    def unregister(self, task_or_name: Any) -> None:
        """Remove the task.

        Raises:
            NotRegistered: it was not there.
        """
        name = getattr(task_or_name, "name", task_or_name)
        if name not in self:
            raise NotRegistered(name, self.near(name))
        del self[name]

    def near(self, name: object) -> list[str]:
        """Return up to three registered names that look like `name`, most alike first."""
        wanted = str(name)
        if len(wanted) > 255:  # not a name somebody mistyped; comparing it would be slow
            return []
        same_end = [known for known in self if known.rpartition(".")[2] == wanted.rpartition(".")[2]]
        return list(dict.fromkeys(difflib.get_close_matches(wanted, self, n=3) + same_end))[:3]


#: The registry of this process.
tasks = Registry()
#: The commands that its workers obey, by name; `djqueue.worker.control` adds to it.
commands: dict[str, Any] = {}


def autodiscover(packages: Iterable[str], related_name: str | None = "tasks") -> list[str]:
    """Import `<package>.<related_name>` of each package, and return the modules that exist.

    A package without such a module is fine; an error inside one is not, and reaches the caller.
    """
    return list(_discovered(packages, related_name))


def load_tasks() -> None:
    """Import what declares tasks: the `tasks` module of every installed app, IMPORTS and INCLUDE."""
    autodiscover(config.name for config in apps.get_app_configs())
    for module in (*settings.IMPORTS, *settings.INCLUDE):
        importlib.import_module(module)


def load_module(name: str, *, again: bool = False) -> None:
    """Import a module; with `again`, once more, so that its tasks are those that it declares now.

    Whatever the module raises reaches the caller; the tasks are then what they were.
    """
    if name not in sys.modules or not again:
        importlib.import_module(name)
        return
    before = {known: task for known, task in tasks.items() if module_of(task) == name}
    for known in before:  # else the first declaration would win
        del tasks[known]
    try:
        importlib.reload(sys.modules[name])
    except BaseException:
        tasks.update(before)
        raise


def module_of(task: Any) -> str | None:
    """Return the name of the module that declares the task."""
    return getattr(task.run, "__module__", None)


def _discovered(packages: Iterable[str], related_name: str | None) -> Iterator[str]:
    for package in packages:
        module = f"{package}.{related_name}" if related_name else package
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as exc:
            if exc.name != module or not related_name:
                raise
        else:
            yield module
