"""What a worker asks of the others when it starts: which tasks are revoked, and what the clocks show.

A component of the worker. It asks in a thread of its own, so that the first tasks do not wait for those who
are slow to answer. Workers of djqueue share the broker's record of revocations anyway; stock Celery workers
keep theirs in memory, and this is how they are asked.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from djqueue.exceptions import OperationalError
from djqueue.messaging import brokers
from djqueue.messaging.control import Control
from djqueue.worker import log_lines
from djqueue.worker.commands.state import WorkerState

#: how long the others have to answer, seconds: on a busy machine more than Celery's one; nothing waits for it
PATIENCE = 2.0
#: a worker that stops waits at most so long for its question, seconds
LAST_MOMENTS = 2.5


class Mingle:
    """Asks once. `hurry` (any thread) asks for a tick."""

    def __init__(self, state: WorkerState, hurry: Callable[[], None]) -> None:
        self._state = state
        self._hurry = hurry
        self._known: list[str] = []
        self._answers: deque[dict[str, Any]] = deque()  # by name of node, each as it comes
        self._is_over = False  # written by the thread, once every answer is in
        self._heard: set[str] = set()
        self._fresh: set[str] = set()
        self._thread = threading.Thread(target=self._ask, name="djqueue-mingle", daemon=True)

    def start(self) -> None:
        """Ask everybody."""
        self._known = self._state.revocations.task_ids()
        self._thread.start()

    def tick(self, now: float) -> float:
        """Keep to what the others said; tell once nobody is waited for any more."""
        is_over = self._is_over
        while self._answers:
            self._heed(self._answers.popleft())
        if is_over:
            self._is_over = False
            log_lines.mingled(sorted(self._heard), len(self._fresh))
        return float("inf")

    def stop(self) -> None:
        """Wait for the question to end, within reason."""
        if self._thread.is_alive():
            self._thread.join(LAST_MOMENTS)

    def _heed(self, answers: dict[str, Any]) -> None:
        state = self._state
        named: set[str] = set()
        for node, answer in answers.items():
            if node == state.hostname or not isinstance(answer, dict):
                continue
            self._heard.add(node)
            brokers.clock.adjust(answer.get("clock"))
            named.update(str(one) for one in answer.get("revoked") or ())
        fresh = state.revocations.add(named)
        self._fresh.update(fresh)
        if fresh:
            state.dispatcher.end_revoked_unstarted(state.waiting_room)
            try:
                state.broker.remember_revoked(sorted(fresh))
            except OperationalError as error:
                log_lines.revocation_not_kept(str(error))

    # -- in the thread -------------------------------------------------------------------------------

    def _ask(self) -> None:
        try:
            ask = Control().inspect(timeout=PATIENCE, callback=self._take)
            ask.hello(self._state.hostname, self._known)
            self._is_over = True
            self._hurry()
        except OperationalError as error:
            log_lines.not_mingled(str(error))
        finally:
            brokers.broker().leave_thread()

    def _take(self, answers: dict[str, Any]) -> None:
        self._answers.append(answers)
        self._hurry()
