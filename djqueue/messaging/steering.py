"""Commands that change a worker itself: its queues, its pool, its events, its life. By Celery's names.

`control.py` adds those about tasks; `worker/commands/` obeys them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from djqueue.messaging.broadcast import Broadcaster, Nodes
from djqueue.messaging.questions import Answer


class Steering(Broadcaster):
    """Steers workers; the keywords `how` are those of `broadcast`."""

    def add_consumer(
        self,
        queue: str,
        exchange: str | None = None,
        exchange_type: str = "direct",
        routing_key: str | None = None,
        options: Mapping[str, Any] | None = None,
        destination: Nodes = None,
        **how: Any,
    ) -> list[Answer] | None:
        """Let workers consume this queue as well; `options` are those of a queue in TASK_QUEUES."""
        place = {"exchange": exchange, "exchange_type": exchange_type, "routing_key": routing_key}
        return self.broadcast(
            "add_consumer", {"queue": queue, **place, **(options or {})}, destination, **how
        )

    def cancel_consumer(self, queue: str, destination: Nodes = None, **how: Any) -> list[Answer] | None:
        """Let workers consume this queue no more; what they have of it they run."""
        return self.broadcast("cancel_consumer", {"queue": queue}, destination, **how)

    def pool_grow(self, n: int = 1, destination: Nodes = None, **how: Any) -> list[Answer] | None:
        """Let each worker run `n` more tasks at a time."""
        return self.broadcast("pool_grow", {"n": n}, destination, **how)

    def pool_shrink(self, n: int = 1, destination: Nodes = None, **how: Any) -> list[Answer] | None:
        """Let each worker run `n` tasks fewer at a time; what runs ends first."""
        return self.broadcast("pool_shrink", {"n": n}, destination, **how)

    def autoscale(
        self,
        max: int,  # noqa: A002  (Celery's names)
        min: int,  # noqa: A002
        destination: Nodes = None,
        **how: Any,
    ) -> list[Answer] | None:
        """Give workers that run with --autoscale other bounds."""
        return self.broadcast("autoscale", {"max": max, "min": min}, destination, **how)

    def pool_restart(
        self,
        modules: Sequence[str] | None = None,
        reload: bool = False,
        reloader: Any = None,
        destination: Nodes = None,
        **how: Any,
    ) -> list[Answer] | None:
        """Let workers with WORKER_POOL_RESTARTS replace their children, each after what it runs.

        `modules` are imported first, with `reload` again; None: those that declare tasks.
        """
        arguments = {"modules": modules, "reload": reload, "reloader": reloader}
        return self.broadcast("pool_restart", arguments, destination, **how)

    def enable_events(self, destination: Nodes = None, **how: Any) -> list[Answer] | None:
        """Let workers send events about tasks."""
        return self.broadcast("enable_events", {}, destination, **how)

    def disable_events(self, destination: Nodes = None, **how: Any) -> list[Answer] | None:
        """Let workers stop sending events about tasks."""
        return self.broadcast("disable_events", {}, destination, **how)

    def heartbeat(self, destination: Nodes = None, **how: Any) -> list[Answer] | None:
        """Let workers send a heartbeat now."""
        return self.broadcast("heartbeat", {}, destination, **how)

    def shutdown(self, destination: Nodes = None, **how: Any) -> list[Answer] | None:
        """Let workers stop, as after TERM. They do not reply."""
        return self.broadcast("shutdown", {}, destination, **how)
