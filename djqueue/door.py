"""`app`: one object per process from which everything can be reached, and which owns nothing.

Code that is used to Celery comes in here; each attribute leads to the room where the thing lives.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from django.apps import apps
from django.utils import timezone

from djqueue.canvas import chain, chord, group, sending, signature
from djqueue.conf import settings
from djqueue.core.calls import Plan
from djqueue.core.defaults import DEFAULTS
from djqueue.core.registry import Registry, autodiscover, tasks
from djqueue.exceptions import AlwaysEagerIgnored
from djqueue.messaging.connections import connection
from djqueue.messaging.control import Control
from djqueue.result import backends, handles
from djqueue.result.facade import Backend
from djqueue.result.groups import GroupResult
from djqueue.tasks.decorator import shared_task
from djqueue.tasks.task import Task, register_task


class Conf(Mapping[str, Any]):
    """The settings in force, by Celery's lower-case names: `app.conf.task_routes`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(settings, name.upper())

    def __setattr__(self, name: str, value: Any) -> None:
        settings.update({name: value})

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(settings, name.upper())
        except AttributeError as exc:
            raise KeyError(str(exc)) from None

    def __setitem__(self, name: str, value: Any) -> None:
        settings.update({name: value})

    def __iter__(self) -> Iterator[str]:
        return (name.lower() for name in DEFAULTS)

    def __len__(self) -> int:
        return len(DEFAULTS)

    def update(self, changes: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Change settings in this process, from now on.

        Raises:
            djqueue.exceptions.ImproperlyConfigured: a name or a value is wrong; then nothing is changed.
        """
        settings.update(changes, **more)


class App:
    """The thin door. There is one: `from djqueue import app`."""

    conf = Conf()
    control = Control()
    Task = Task
    AsyncResult = handles.AsyncResult
    GroupResult = GroupResult
    task = staticmethod(shared_task)
    register_task = staticmethod(register_task)
    signature = staticmethod(signature)
    chain = chain
    group = group
    chord = chord
    connection = staticmethod(connection)

    @property
    def tasks(self) -> Registry:
        """Every registered task by name."""
        return tasks

    @property
    def backend(self) -> Backend:
        """The result store, under Celery's names."""
        return Backend(backends.backend())

    @property
    def timezone(self) -> Any:
        """The time zone of schedules."""
        return settings.timezone()

    def now(self) -> datetime:
        """Return the current moment, aware, in the time zone of schedules."""
        return timezone.now().astimezone(settings.timezone())

    def send_task(
        self,
        name: str,
        args: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> handles.AsyncResult[Any]:
        """Send a task by its name; it need not be known here. What its task declares here still holds.

        Takes the options of `apply_async`, and raises as it does. Arguments are not checked.
        """
        if settings.TASK_ALWAYS_EAGER:
            warnings.warn(
                f"TASK_ALWAYS_EAGER has no effect on send_task({name!r}): the message is sent.",
                AlwaysEagerIgnored,
                stacklevel=2,
            )
        known = tasks.get(name)
        plan = Plan.for_name(name) if known is None else known.plan
        return sending.send_with(plan, args, kwargs, options)

    async def asend_task(self, name: str, *args: Any, **options: Any) -> handles.AsyncResult[Any]:
        """Do as `send_task` does, without blocking the event loop."""
        return await sending.in_thread(self.send_task, name, *args, **options)

    def autodiscover_tasks(
        self,
        packages: Iterable[str] | Callable[[], Iterable[str]] | None = None,
        related_name: str | None = "tasks",
    ) -> list[str]:
        """Import `<package>.<related_name>` of each package (of every installed app when none are given).

        Returns the names of the modules that exist. A package without one is fine, an error in one is raised.
        """
        if packages is None:
            packages = [config.name for config in apps.get_app_configs()]
        return autodiscover(packages() if callable(packages) else packages, related_name)

    def __repr__(self) -> str:
        return "<djqueue.app>"


app = App()
