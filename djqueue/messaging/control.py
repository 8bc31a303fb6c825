"""The client's side of remote control: `app.control`.

Each method broadcasts one command to workers and, where it asks for replies, collects them until the time is
up or all those named have answered. Revoking also leaves a record with the broker, so that workers that are
not up, or did not hear of it, keep to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kombu.connection import Connection

from djqueue.core import stamps
from djqueue.messaging import brokers
from djqueue.messaging.broadcast import PATIENCE, Nodes, reaches_all
from djqueue.messaging.inspection import Inspect
from djqueue.messaging.questions import Answer
from djqueue.messaging.steering import Steering

__all__ = ["PATIENCE", "Control", "Inspect"]


class Control(Steering):
    """Commands to workers; see `Broadcaster` for who is meant, and `broadcast` for the keywords `how`."""

    def inspect(
        self,
        destination: Nodes = None,
        timeout: float = PATIENCE,
        callback: Callable[[Answer], None] | None = None,
        connection: Connection | None = None,
        limit: int | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> Inspect:
        """Return what asks workers about themselves: `app.control.inspect().active()`."""
        return Inspect(
            self,
            destination,
            timeout=timeout,
            callback=callback,
            connection=connection,
            limit=limit,
            pattern=pattern,
            matcher=matcher,
        )

    def ping(self, destination: Nodes = None, timeout: float = PATIENCE, **how: Any) -> list[Answer]:
        """Return `{node: {"ok": "pong"}}` of every worker that answers in time."""
        return self.broadcast("ping", destination=destination, reply=True, timeout=timeout, **how) or []

    # -- tasks ---------------------------------------------------------------------------------------

    def revoke(
        self,
        task_id: str | Iterable[str],
        destination: Nodes = None,
        terminate: bool = False,
        signal: str = "SIGTERM",
        **how: Any,
    ) -> list[Answer] | None:
        """Tell workers not to run the task or tasks; with `terminate`, kill the process of a running one.

        The broker keeps the revocation, where it can, so that it holds with no worker up.
        """
        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        if destination is None and how.get("pattern") is None:
            brokers.broker().remember_revoked(ids)
            if not terminate and not reaches_all():
                return None  # workers read it in the record
        arguments = {"task_id": task_id if isinstance(task_id, str) else ids}
        more = {"terminate": terminate, "signal": signal}
        return self.broadcast("revoke", {**arguments, **more}, destination, **how)

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, Any] | Sequence[str],
        destination: Nodes = None,
        terminate: bool = False,
        signal: str = "SIGTERM",
        **how: Any,
    ) -> list[Answer] | None:
        """Tell workers not to run tasks with one of these stamps; with `terminate`, kill those that run.

        `headers` has a value or a list of values for each header, or is a list of texts `header=value`. The
        broker keeps the revocation, where it can.
        """
        wanted = stamps.named(headers)
        if destination is None and how.get("pattern") is None:
            brokers.broker().remember_revoked(stamps.marks(wanted))
        arguments = {"headers": wanted, "terminate": terminate, "signal": signal}
        return self.broadcast("revoke_by_stamped_headers", arguments, destination, **how)

    def terminate(
        self,
        task_id: str | Iterable[str],
        destination: Nodes = None,
        signal: str = "SIGTERM",
        **how: Any,
    ) -> list[Answer] | None:
        """Revoke the task or tasks, and kill the process of a running one."""
        return self.revoke(task_id, destination, terminate=True, signal=signal, **how)

    def rate_limit(
        self, task_name: str, rate_limit: str | int | float, destination: Nodes = None, **how: Any
    ) -> list[Answer] | None:
        """Let each worker start that task no more often than `rate_limit`, such as "10/m"; 0: no limit."""
        arguments = {"task_name": task_name, "rate_limit": rate_limit}
        return self.broadcast("rate_limit", arguments, destination, **how)

    def time_limit(
        self,
        task_name: str,
        soft: float | None = None,
        hard: float | None = None,
        destination: Nodes = None,
        **how: Any,
    ) -> list[Answer] | None:
        """Give that task new time limits in seconds, from the next one received."""
        arguments = {"task_name": task_name, "hard": hard, "soft": soft}
        return self.broadcast("time_limit", arguments, destination, **how)

    def purge(self, connection: Connection | None = None, queues: Iterable[str] | None = None) -> int:
        """Delete what waits in the queues (all that are declared); return how many messages that were."""
        broker = brokers.broker()
        declared = (queue.name for queue in brokers.queues().consumed())
        return sum(broker.purge(queue) for queue in queues or declared)

    discard_all = purge
