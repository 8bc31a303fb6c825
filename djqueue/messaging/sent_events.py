"""Tells monitors what this process sends (`task-sent`), where TASK_SEND_SENT_EVENT asks for it.

Listens to `after_task_publish` and hands the event to a postman, so that sending a task never waits for a
monitor. The thread starts with the first event, and once more in a forked child.
"""

from __future__ import annotations

import atexit
import os
from threading import Lock
from typing import Any

from djqueue.core.names import origin
from djqueue.messaging.events import event
from djqueue.messaging.postman import Postman
from djqueue.signals import after_task_publish


class SentEvents:
    """The sender of such events in one process. Any thread may send tasks."""

    _postman: Postman | None

    def __init__(self) -> None:
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def listen(self) -> None:
        """Tell of every task that is sent from now on."""
        after_task_publish.connect(self.tell, weak=False, dispatch_uid="djqueue.sent_events")

    def tell(self, headers: dict[str, Any], exchange: str, routing_key: str, **_: Any) -> None:
        """Tell of one task (a receiver of `after_task_publish`)."""
        if not headers.get("id"):
            return  # protocol 1 says all this in the body
        fields = {name: headers.get(name) for name in ("root_id", "parent_id", "retries", "eta", "expires")}
        told = event(
            "task-sent",
            origin(),
            uuid=headers.get("id"),
            name=headers.get("task"),
            args=headers.get("argsrepr"),
            kwargs=headers.get("kwargsrepr"),
            queue=routing_key,
            exchange=exchange,
            routing_key=routing_key,
            **fields,
        )
        self._own_postman().post(told)

    def _own_postman(self) -> Postman:
        with self._lock:
            if self._postman is None:
                self._postman = Postman(origin())
                self._postman.start()
                atexit.register(self._postman.stop)
            return self._postman

    def _forget(self) -> None:
        """Begin anew: another thread of the parent may have held the lock, and threads do not fork."""
        self._lock = Lock()
        self._postman = None
