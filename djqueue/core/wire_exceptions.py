"""How exceptions travel between processes: as their class's name and their arguments, in results.

A table maps our classes to the module and class names that Celery, billiard and kombu write into results,
both ways, so that one `except` matches whoever ran the task. An exception is rebuilt from a result only out
of classes that are already imported.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.utils.functional import Promise

from djqueue import exceptions
from djqueue.conf import settings
from djqueue.core.reprs import safe_repr
from djqueue.exceptions import (
    AlreadyRegistered,
    BackendError,
    BackendGetMetaError,
    BackendStoreError,
    ChordError,
    ContentDisallowed,
    DecodeError,
    DjqueueError,
    EncodeError,
    Ignore,
    ImproperlyConfigured,
    InvalidTaskError,
    MaxRetriesExceededError,
    NotRegistered,
    OperationalError,
    QueueNotFound,
    Reject,
    RemoteError,
    Retry,
    SecurityError,
    SerializationError,
    SerializerNotInstalled,
    SoftTimeLimitExceeded,
    TaskError,
    TaskPredicate,
    TaskRevokedError,
    Terminated,
    TimeLimitExceeded,
    WorkerLostError,
    WorkerShutdown,
    WorkerTerminate,
)


def _named(*known: type[BaseException]) -> dict[str, type[BaseException]]:
    return {one.__name__: one for one in known}


_ON_THE_WIRE: dict[str, dict[str, type[BaseException]]] = {
    "celery.exceptions": {
        "CeleryError": DjqueueError,
        **_named(
            *(ImproperlyConfigured, SecurityError, TaskPredicate, Retry, Ignore, Reject, TaskError),
            *(
                NotRegistered,
                AlreadyRegistered,
                QueueNotFound,
                exceptions.TimeoutError,
                MaxRetriesExceededError,
            ),
            *(TaskRevokedError, InvalidTaskError, ChordError, WorkerShutdown, WorkerTerminate),
            *(BackendError, BackendGetMetaError, BackendStoreError),
        ),
    },
    "billiard.exceptions": _named(SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError, Terminated),
    "kombu.exceptions": _named(
        *(OperationalError, SerializationError, EncodeError, DecodeError),
        *(SerializerNotInstalled, ContentDisallowed),
    ),
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
