"""The moments at which your code is called: Django signals with Celery's names and arguments.

Connect as with any Django signal, or as a decorator (`@task_prerun.connect`). A sender may be given by
name, for the publish signals: names are compared as text. djqueue sends them with `send_robust`, so a
failing receiver is logged and changes nothing for the task.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.dispatch import Signal


class TaskSignal(Signal):
    """A Django signal that also decorates, and that tells senders given as text apart by their text."""

    def __init__(self, use_caching: bool = False) -> None:
        super().__init__(use_caching)
        # Django compares senders by identity. Text is replaced by the one copy kept here, on both sides.
        self._names: dict[str, str] = {}

    def connect(
        self,
        receiver: Callable[..., Any] | None = None,
        sender: object | None = None,
        weak: bool = True,
        dispatch_uid: object | None = None,
    ) -> Any:
        """Connect `receiver` and return it; without a receiver, return a decorator that does so."""
        if isinstance(sender, str):
            sender = self._names.setdefault(sender, sender)
        if receiver is None:
            return lambda function: self.connect(function, sender, weak, dispatch_uid)
        super().connect(receiver, sender=sender, weak=weak, dispatch_uid=dispatch_uid)
        return receiver

    def disconnect(
        self,
        receiver: Callable[..., Any] | None = None,
        sender: object | None = None,
        dispatch_uid: str | None = None,
    ) -> bool:
        """Disconnect `receiver`; return whether it was connected."""
        return super().disconnect(receiver, self._same(sender), dispatch_uid)

    def has_listeners(self, sender: Any = None) -> bool:
        """Return whether anybody listens to `sender`."""
        return bool(self.receivers) and super().has_listeners(self._same(sender))

    def send(self, sender: Any, **named: Any) -> list[tuple[Callable[..., Any], Any]]:
        """Call the receivers; an error in one reaches the caller."""
        return super().send(self._same(sender), **named) if self.receivers else []

    def send_robust(self, sender: Any, **named: Any) -> list[tuple[Callable[..., Any], Any]]:
        """Call the receivers; an error in one is logged and takes the place of its answer."""
        return super().send_robust(self._same(sender), **named) if self.receivers else []

    def _same(self, sender: Any) -> Any:
        return self._names.get(sender, sender) if isinstance(sender, str) else sender


#: Where a message is sent. Sender: the task's name.
before_task_publish = TaskSignal()  #: body, exchange, routing_key, headers, properties, declare, retry_policy
after_task_publish = TaskSignal()  #: body, exchange, routing_key, headers

#: Where a task runs. Sender: the task.
task_prerun = TaskSignal()  #: task_id, task, args, kwargs
task_postrun = TaskSignal()  #: task_id, task, args, kwargs, retval, state
task_success = TaskSignal()  #: result
task_retry = TaskSignal()  #: request, reason, einfo
task_failure = TaskSignal()  #: task_id, exception, args, kwargs, traceback, einfo
task_internal_error = TaskSignal()  #: task_id, args, kwargs, request, exception, traceback, einfo

#: In the worker's main process.
task_received = TaskSignal()  #: request
task_revoked = TaskSignal()  #: request, terminated, signum, expired
task_unknown = TaskSignal()  #: message, exc, name, id
task_rejected = TaskSignal()  #: message, exc

#: The life of a worker, of a child process, and of beat.
worker_init = TaskSignal()
worker_ready = TaskSignal()
worker_shutting_down = TaskSignal()  #: sig, how, exitcode
worker_shutdown = TaskSignal()
worker_process_init = TaskSignal()
worker_process_shutdown = TaskSignal()  #: pid, exitcode
beat_init = TaskSignal()
