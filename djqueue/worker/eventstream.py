"""The worker's events on their way to monitors: made in the loop, sent by a thread, never waited for.

The announcer tells what happened to tasks, the heart that the worker lives. Events about tasks travel in
lists, of 24 or of what one turn of the loop brought. What a broker that is away does not take is dropped
and counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from djqueue.messaging.events import Event, event
from djqueue.messaging.mailbox import Reply
from djqueue.messaging.postman import Postman

#: so many events travel in one list
LIST_LENGTH = 24


class EventStream:
    """Makes events of this worker. Used by the loop's thread only; a component of the worker.

    `is_on` tells whether events about tasks are wanted: nobody should make up their fields otherwise.
    `hurry` asks for a tick at the end of this turn of the loop.
    """

    def __init__(self, hostname: str, postman: Postman, hurry: Callable[[], None], *, is_on: bool) -> None:
        self.is_on = is_on
        self._hostname = hostname
        self._postman = postman
        self._hurry = hurry
        self._buffer: list[Event] = []

    def task(self, kind: str, task_id: str, **fields: Any) -> None:
        """Tell what happened to a task, if anybody wants to know."""
        if not self.is_on:
            return
        self._buffer.append(event(kind, self._hostname, uuid=task_id, **fields))
        if len(self._buffer) >= LIST_LENGTH:
            self._flush()
        elif len(self._buffer) == 1:
            self._hurry()

    def worker(self, kind: str, **fields: Any) -> None:
        """Tell what happens to the worker."""
        self._flush()
        self._postman.post(event(kind, self._hostname, **fields))

    def post(self, reply: Reply) -> None:
        """Send a reply to remote control, in order with the events."""
        self._postman.post(reply)

    def start(self) -> None:
        """Begin to send."""
        self._postman.start()

    def tick(self, now: float) -> float:
        """Send what has come together."""
        self._flush()
        return float("inf")

    def stop(self) -> None:
        """Send the rest, within reason."""
        self._flush()
        self._postman.stop()

    def _flush(self) -> None:
        if self._buffer:
            self._postman.post(self._buffer)
            self._buffer = []
