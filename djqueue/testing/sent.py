"""What a test sent: messages stay in this process, and what was called with which arguments can be asked.

`recording` puts a broker in memory in the place of the project's; a `Sent` leaves, which hears of each
message through djqueue's signals. The transaction that a `TestCase` puts around each test is never committed;
here it counts as committed whenever the test looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from django.conf import settings as django_settings
from django.test import TestCase

from djqueue.conf import settings
from djqueue.messaging import brokers
from djqueue.messaging.departures import commit_in_testcase, is_inside_transaction
from djqueue.messaging.transports.memory import MemoryBroker
from djqueue.signals import after_task_publish, before_task_publish
from djqueue.tasks.task import Task

URL = "memory://djqueue.testing"


@dataclass(frozen=True, slots=True)
class SentCall:
    """One message that was sent: the task's name, its arguments as the caller gave them, its queue."""

    task: str
    id: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    queue: str
    headers: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.task}(args={self.args!r}, kwargs={self.kwargs!r})"


class Sent:
    """Everything that was sent, in order: by the test, by the code it calls, and by tasks that ran."""

    def __init__(self) -> None:
        self._asked: dict[str, SentCall] = {}
        self._left: list[SentCall] = []

    def calls(self, task: Task[..., Any] | str | None = None) -> list[SentCall]:
        """Return what was sent, of that task only if one is given; what was rolled back is not among it."""
        commit_in_testcase()
        name = task.name if isinstance(task, Task) else task
        return [call for call in self._left if name is None or call.task == name]

    def assert_sent(self, task: Task[..., Any] | str, args: Any = None, kwargs: Any = None) -> SentCall:
        """Return the newest call of the task, with these arguments if they are given.

        Raises:
            AssertionError: there is none; it says what was sent.
        """
        for call in reversed(self.calls(task)):
            if args in (None, call.args, list(call.args)) and kwargs in (None, call.kwargs):
                return call
        raise AssertionError(f"{task!r} was not sent with args={args!r} and kwargs={kwargs!r}. {self}")

    def __str__(self) -> str:
        if self._left:
            return "Sent were:" + "".join(f"\n  {call}" for call in self._left)
        return (
            "Nothing was sent. (In a TestCase, functions given to transaction.on_commit are called only in"
            " captureTasks() or captureOnCommitCallbacks(execute=True).)"
        )

    # -- receivers -----------------------------------------------------------------------------------

    def asked(self, sender: str, body: Any, routing_key: str, headers: Any, **_: Any) -> None:
        """Note a call, as the caller gave it; whether its message leaves is not known yet."""
        args, kwargs = (body["args"], body["kwargs"]) if isinstance(body, dict) else body[:2]
        task_id = _task_id(body, headers)
        self._asked[task_id] = SentCall(sender, task_id, tuple(args), dict(kwargs), routing_key, headers)

    def left(self, body: Any, headers: Any, **_: Any) -> None:
        """Note that a message left."""
        call = self._asked.get(_task_id(body, headers))
        if call is not None:
            self._left.append(call)


@contextmanager
def recording() -> Iterator[Sent]:
    """Keep what is sent inside the block in this process, and forget at its end what did not run."""
    sent = Sent()
    with settings.override(BROKER_URL=URL, TASK_ALWAYS_EAGER=False, WORKER_DISABLE_RATE_LIMITS=True):
        before_task_publish.connect(sent.asked)
        after_task_publish.connect(sent.left)
        try:
            yield sent
        finally:
            before_task_publish.disconnect(sent.asked)
            after_task_publish.disconnect(sent.left)
            memory().clear()


@contextmanager
def committing() -> Iterator[None]:
    """Call at the end of the block what was given to `transaction.on_commit` in it, also in a `TestCase`."""
    with ExitStack() as stack:
        for alias in django_settings.DATABASES:
            if not is_inside_transaction(alias):
                stack.enter_context(TestCase.captureOnCommitCallbacks(using=alias, execute=True))
        yield


def memory() -> MemoryBroker:
    """Return the broker that `recording` uses."""
    broker = brokers.broker(URL)
    assert isinstance(broker, MemoryBroker)
    return broker


def _task_id(body: Any, headers: Any) -> str:
    return str(body["id"] if isinstance(body, dict) else headers["id"])
