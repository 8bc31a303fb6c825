"""Every error djqueue raises, and how exceptions travel between processes.

The classes are our own and carry Celery's names. A table maps them to the module and class names that
Celery, billiard and kombu write into results, both ways, so that one `except` matches whoever ran the
task. An exception is rebuilt from a result only out of classes that are already imported.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured as DjangoImproperlyConfigured
from django.utils.functional import Promise

from djqueue.conf import settings
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
            return self.message
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
        self.exc_message = exc_message
        self.exc_module = exc_module

    def __str__(self) -> str:
        name = f"{self.exc_module}.{self.exc_type}" if self.exc_module else self.exc_type
        message = self.exc_message
        text = ", ".join(map(str, message)) if isinstance(message, list | tuple) else str(message)
        return f"{name}: {text}" if text else name


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


# On the wire.

_ON_THE_WIRE: dict[str, dict[str, type[BaseException]]] = {
    "celery.exceptions": {
        "CeleryError": DjqueueError,
        **{
            known.__name__: known
            for known in (
                *(ImproperlyConfigured, SecurityError, TaskPredicate, Retry, Ignore, Reject, TaskError),
                *(NotRegistered, AlreadyRegistered, QueueNotFound, TimeoutError, MaxRetriesExceededError),
                *(TaskRevokedError, InvalidTaskError, ChordError, WorkerShutdown, WorkerTerminate),
                *(BackendError, BackendGetMetaError, BackendStoreError),
            )
        },
    },
    "billiard.exceptions": {
        known.__name__: known
        for known in (SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError, Terminated)
    },
    "kombu.exceptions": {
        known.__name__: known
        for known in (
            *(OperationalError, SerializationError, EncodeError, DecodeError),
            *(SerializerNotInstalled, ContentDisallowed),
        )
    },
}
_WIRE_NAMES = {
    known: (module, name) for module, names in _ON_THE_WIRE.items() for name, known in names.items()
}
# celery.exceptions re-exports these, and other writers name that module.
_ALIASES = {**_ON_THE_WIRE["billiard.exceptions"], "OperationalError": OperationalError}
_WRAPPER = ("celery.utils.serialization", "UnpickleableExceptionWrapper")  # round what pickle refuses

#: What JSON carries as it is, besides lists and dictionaries of such values.
_CARRIED = (str, int, float, bool, type(None), bytes, datetime, date, time, Decimal, UUID)
_DEEPEST = 20


def wire_name(known: type[BaseException]) -> tuple[str, str]:
    """Return the module and class name under which others know this exception class."""
    return _WIRE_NAMES.get(known) or (known.__module__, known.__qualname__)


def class_from_wire(module: str | None, name: str) -> type[BaseException] | None:
    """Return the exception class of that name, or None if no imported module has it.

    Only the dictionaries of modules and classes are read, so that nothing is imported or run.

    Raises:
        SecurityError: the name leads to something that is not an exception class.
    """
    if module is None:
        return None
    known = _ON_THE_WIRE.get(module, {}).get(name)
    if known is None and module == "celery.exceptions":
        known = _ALIASES.get(name)
    if known is not None or not _is_allowed(module, name):
        return known
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = vars(found).get(part) if isinstance(found, type(sys) | type) else None
        if found is None:
            return None
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        raise SecurityError(
            f"A result names {module}.{name} as its exception, which is not an exception class."
        )
    return found


def exception_to_wire(exc: BaseException) -> dict[str, Any]:
    """Return the exception as results carry it: `exc_type`, `exc_message`, `exc_module`."""
    if isinstance(exc, RemoteError):  # passed on as it came
        return {"exc_type": exc.exc_type, "exc_message": exc.exc_message, "exc_module": exc.exc_module}
    module, name = wire_name(type(exc))
    arguments = [_carried(value) for value in exc.args]
    return {"exc_type": name, "exc_message": arguments, "exc_module": module}


def exception_from_wire(wire: Any) -> BaseException:
    """Return the exception that a result carries; never raises.

    A class that is not imported here, not allowed by RESULT_EXCEPTIONS, or that cannot be built from what
    was sent becomes a `RemoteError`; a name that leads to anything but an exception, a `SecurityError`.
    """
    if isinstance(wire, BaseException):  # pickle carries exceptions themselves
        return wire
    if not isinstance(wire, Mapping) or not isinstance(wire.get("exc_type"), str):
        return RemoteError("Exception", [wire])
    name, message, module = wire["exc_type"], wire.get("exc_message"), wire.get("exc_module")
    module = module if isinstance(module, str) else None
    arguments = list(message) if isinstance(message, list | tuple) else [] if message is None else [message]
    if (module, name) == _WRAPPER and len(arguments) == 4:
        wrapped = zip(("exc_module", "exc_type", "exc_message"), arguments[:3], strict=True)
        return exception_from_wire(dict(wrapped))
    try:
        known = class_from_wire(module, name)
    except SecurityError as exc:
        return exc
    rebuilt = None if known is None else _rebuild(known, arguments)
    return RemoteError(name, arguments, module) if rebuilt is None else rebuilt


def _is_allowed(module: str, name: str) -> bool:
    allowed = settings.RESULT_EXCEPTIONS
    if allowed == "imported" or module == "builtins":
        return True
    return allowed != "strict" and f"{module}.{name}" in allowed


def _rebuild(known: type[BaseException], arguments: list[Any]) -> BaseException | None:
    """Build the exception; one whose constructor wants something else is made without calling it."""
    try:
        return known(*arguments)
    except Exception:
        pass
    try:
        bare = known.__new__(known, *arguments)
        bare.args = tuple(arguments)
        str(bare), repr(bare)
    except Exception:
        return None
    return bare


def _carried(value: Any) -> Any:
    if isinstance(value, Promise):  # a text to be translated
        return str(value)
    return value if _is_carried(value) else safe_repr(value)


def _is_carried(value: Any, depth: int = 0) -> bool:
    if isinstance(value, _CARRIED):
        return True
    if depth >= _DEEPEST:
        return False
    if isinstance(value, list | tuple):
        return all(_is_carried(item, depth + 1) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_carried(item, depth + 1) for key, item in value.items())
    return False
