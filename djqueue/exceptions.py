"""Every error djqueue raises.

The classes are our own and carry Celery's names; how they travel in results is in `core/wire_exceptions.py`.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ImproperlyConfigured as DjangoImproperlyConfigured

from djqueue.core.reprs import safe_repr


class DjqueueError(Exception):
    """Something went wrong in djqueue."""

    def __str__(self) -> str:
        if not self.args:
            return (type(self).__doc__ or type(self).__name__).strip().partition("\n")[0]
        return str(self.args[0]) if len(self.args) == 1 else str(self.args)


class DjqueueWarning(UserWarning):
    """Something works, but probably not as meant."""


class AlwaysEagerIgnored(DjqueueWarning):
    """TASK_ALWAYS_EAGER has no effect on send_task."""


class DuplicateTaskNameWarning(DjqueueWarning):
    """Two different functions were registered under one task name."""


class ImproperlyConfigured(DjqueueError, DjangoImproperlyConfigured):
    """A setting or an option has a value that djqueue cannot work with."""


class SecurityError(DjqueueError):
    """Something was refused because it is not safe."""


# Steering a task: raised by the task itself.


class TaskPredicate(DjqueueError):
    """An exception by which a task says what is to become of it."""


class Retry(TaskPredicate):
    """The task is to be run again later."""

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | str | None = None,
        when: Any = None,
        is_eager: bool = False,
        sig: Any = None,
    ) -> None:
        super().__init__(message, exc, when)
        self.message = message
        self.exc = exc if isinstance(exc, BaseException) else None
        self.excs = exc if isinstance(exc, str) else safe_repr(exc) if exc is not None else None
        self.when = when
        self.is_eager = is_eager
        self.sig = sig

    def humanize(self) -> str:
        """Return when it will be tried again, in words."""
        return f"in {self.when}s" if isinstance(self.when, int | float) else f"at {self.when}"

    def __str__(self) -> str:
        if self.message:
            return str(self.message)  # from the wire it may be anything
        return f"Retry {self.humanize()}: {self.excs}" if self.excs else f"Retry {self.humanize()}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.exc or self.excs, self.when)


class Ignore(TaskPredicate):
    """The task wants no state to be stored."""


class Reject(TaskPredicate):
    """The task refuses its message."""

    def __init__(self, reason: Any = None, requeue: bool = False) -> None:
        super().__init__(reason, requeue)
        self.reason = reason
        self.requeue = requeue

    def __str__(self) -> str:
        return f"reject requeue={self.requeue}: {self.reason}"


# About tasks.


class TaskError(DjqueueError):
    """Something is wrong with a task."""


class NotRegistered(TaskError, KeyError):
    """No task of that name is registered in this process."""

    def __init__(self, name: Any = None, near: Sequence[str] = ()) -> None:
        super().__init__(name)
        self.near = tuple(near)

    def __str__(self) -> str:
        meant = f" Did you mean {' or '.join(map(repr, self.near))}?" if self.near else ""
        return (
            f"No task named {self.args[0]!r} is registered in this process.{meant} Tasks are found in the "
            "`tasks` module of every installed app and in DJQUEUE['IMPORTS']."
        )


class AlreadyRegistered(TaskError):
    """A task of that name is registered already."""


class QueueNotFound(TaskError, KeyError):
    """The task is routed to a queue that does not exist."""


class TimeoutError(TaskError, builtins.TimeoutError):
    """The result did not arrive in time."""


class MaxRetriesExceededError(TaskError):
    """The task was tried as often as it may be."""

    def __init__(self, *args: Any, task_args: Any = (), task_kwargs: Any = None) -> None:
        super().__init__(*args)
        self.task_args = task_args
        self.task_kwargs = task_kwargs or {}


class TaskRevokedError(TaskError):
    """The task was revoked, so there is no result."""


class InvalidTaskError(TaskError):
    """A message cannot be read as a call of a task."""


class ChordError(TaskError):
    """A task of the chord's header failed."""


class NotSentYet(TaskError):
    """The task cannot have been run: its message was not sent."""


class RemoteError(TaskError):
    """An exception of a class that this process does not know, or may not build."""

    def __init__(self, exc_type: str, exc_message: Any = (), exc_module: str | None = None) -> None:
        super().__init__(exc_type, exc_message, exc_module)
        self.exc_type = exc_type
        self.exc_message = exc_message if isinstance(exc_message, list | tuple) else [exc_message]
        self.exc_module = exc_module

    def __str__(self) -> str:
        name = f"{self.exc_module}.{self.exc_type}" if self.exc_module else self.exc_type
        text = ", ".join(map(str, self.exc_message))
        return f"{name}: {text}" if text else name

    def __repr__(self) -> str:  # as the exception itself would be shown, and Celery does
        return f"{self.exc_type}({', '.join(map(repr, self.exc_message))})"


# Ends that the worker brings about.


class SoftTimeLimitExceeded(DjqueueError):
    """The soft time limit was exceeded; the task may still clean up."""


class TimeLimitExceeded(DjqueueError):
    """The time limit was exceeded and the task was killed."""


class WorkerLostError(DjqueueError):
    """The process that ran the task ended unexpectedly."""


class Terminated(DjqueueError):
    """The process that ran the task was ended on request."""


class WorkerShutdown(SystemExit):
    """Ends the worker after what runs now."""


class WorkerTerminate(SystemExit):
    """Ends the worker at once."""


# Brokers, contents and stores.


class OperationalError(DjqueueError):
    """The broker could not be reached, or refused."""


class Unroutable(OperationalError):
    """No queue is bound where the message was sent, so nobody would have got it."""


class SerializationError(DjqueueError):
    """A content could not be written or read."""


class EncodeError(SerializationError, TypeError):
    """A value cannot be written with this serializer."""


class DecodeError(SerializationError, ValueError):
    """A content cannot be read."""


class SerializerNotInstalled(DjqueueError):
    """There is no serializer of that name."""


class ContentDisallowed(SerializerNotInstalled):
    """A content of a type that ACCEPT_CONTENT does not list."""


class BackendError(DjqueueError):
    """The result store could not be read or written."""


class BackendGetMetaError(BackendError):
    """The result store could not be read."""

    def __init__(self, *args: Any, task_id: str = "") -> None:
        super().__init__(*args)
        self.task_id = task_id


class BackendStoreError(BackendError):
    """The result store could not be written."""

    def __init__(self, *args: Any, state: str = "", task_id: str = "") -> None:
        super().__init__(*args)
        self.state = state
        self.task_id = task_id
