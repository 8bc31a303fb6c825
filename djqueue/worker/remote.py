"""Remote control inside the worker: obeys what the listener heard, and has the postman send the replies.

A component of the worker, ticked as soon as a command has come. Commands run in the loop's thread on the
live parts; one that raises is answered with the error and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from djqueue.core.registry import commands
from djqueue.messaging.listener import Listener
from djqueue.messaging.mailbox import Command, Reply, answer
from djqueue.worker import commands as _commands  # noqa: F401
from djqueue.worker import log_lines
from djqueue.worker.commands.state import WorkerState
from djqueue.worker.control import NO_REPLY

#: most commands obeyed in one turn of the loop
MOST_AT_ONCE = 50
#: seconds to the next turn when there are more
AT_ONCE = 0.0


class RemoteControl:
    """Obeys commands for one worker. `hurry` (any thread) asks for a tick."""

    def __init__(self, state: WorkerState, post: Callable[[Reply], None], hurry: Callable[[], None]) -> None:
        self._state = state
        self._post = post
        self._listener = Listener(state.hostname, hurry)

    def start(self) -> None:
        """Begin to listen."""
        self._listener.start()

    def tick(self, now: float) -> float:
        """Obey what was heard."""
        heard = self._listener.heard(MOST_AT_ONCE)
        for command in heard:
            self._obey(command)
        return AT_ONCE if len(heard) == MOST_AT_ONCE else float("inf")

    def stop(self) -> None:
        """Listen no more."""
        self._listener.stop()

    def _obey(self, command: Command) -> None:
        content = obeyed(self._state, command)
        reply = None if content is NO_REPLY else answer(command, self._state.hostname, content)
        if reply is not None:
            self._post(reply)


def obeyed(state: WorkerState, command: Command) -> Any:
    """Return what the worker says to a command; an error in it becomes `{"error": …}`, as in Celery."""
    try:
        known = commands.get(command.method)
        if known is None:
            raise KeyError(command.method)
        return known.function(state, **command.arguments)
    except Exception as error:  # a command, perhaps the user's, must not end the worker
        log_lines.command_failed(command.method, repr(error))
        return {"error": repr(error)}
