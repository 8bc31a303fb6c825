"""Questions to workers: `app.control.inspect()`, or `inspect()` for short.

Each is a command that is broadcast; the replies come back as one dictionary by node.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from djqueue.messaging import log_lines
from djqueue.messaging.broadcast import Broadcaster, Nodes
from djqueue.messaging.questions import Answer


class Inspect:
    """Asks workers about themselves. Each method returns `{node: reply}`, or None when nobody answered.

    With a single node as `destination`, what that node replied is returned as it is. The keywords are those
    of `Control.inspect`.
    """

    def __init__(self, control: Broadcaster, destination: Nodes = None, **how: Any) -> None:
        self._control = control
        self._destination = destination
        self._how = how

    def ask(self, command: str, **arguments: Any) -> Any:
        """Return what workers reply to any command, by its name."""
        replies = self._control.broadcast(command, arguments, self._destination, reply=True, **self._how)
        merged = merged_replies(replies or [])
        if not merged:
            return None
        return merged.get(self._destination) if isinstance(self._destination, str) else merged

    def ping(self, destination: Nodes = None) -> Any:
        """Who is there: `{"ok": "pong"}`."""
        if destination:
            self._destination = destination
        return self.ask("ping")

    def active(self, safe: bool | None = None) -> Any:
        """What runs now; with `safe`, arguments as text."""
        return self.ask("active", safe=safe)

    def reserved(self, safe: bool | None = None) -> Any:
        """What was received and has not started. (`safe` is taken for Celery's sake, and changes nothing.)"""
        return self.ask("reserved")

    def scheduled(self, safe: bool | None = None) -> Any:
        """What waits for its time, or for its rate limit. (`safe` is taken for Celery's sake.)"""
        return self.ask("scheduled")

    def registered(self, *taskinfoitems: str) -> Any:
        """The names of the tasks that workers know, with the options named."""
        return self.ask("registered", taskinfoitems=taskinfoitems)

    registered_tasks = registered

    def stats(self) -> Any:
        """Counts, pool, broker, and what the process uses."""
        return self.ask("stats")

    def active_queues(self) -> Any:
        """The queues that are consumed."""
        return self.ask("active_queues")

    def revoked(self) -> Any:
        """The ids of revoked tasks."""
        return self.ask("revoked")

    def conf(self, with_defaults: bool = False) -> Any:
        """The settings, secrets masked."""
        return self.ask("conf", with_defaults=with_defaults)

    def query_task(self, *ids: str) -> Any:
        """Where tasks are, by id."""
        flat = list(ids[0]) if len(ids) == 1 and not isinstance(ids[0], str) else list(ids)
        return self.ask("query_task", ids=flat)

    def clock(self) -> Any:
        """The logical clock."""
        return self.ask("clock")

    def hello(self, from_node: str, revoked: Sequence[str] | None = None) -> Any:
        """The ids of revoked tasks and the clock, in exchange for one's own."""
        return self.ask("hello", from_node=from_node, revoked=revoked)

    def report(self) -> Any:
        """What is installed, as text."""
        return self.ask("report")

    def memsample(self) -> Any:
        """The memory that the main process uses, as text."""
        return self.ask("memsample")


def merged_replies(replies: Iterable[Answer]) -> Answer:
    """Return the replies as one dictionary by node; two nodes of one name are warned of."""
    merged: Answer = {}
    for reply in replies:
        for node, content in reply.items():
            if node in merged:
                log_lines.duplicate_node(node)
            merged[node] = content
    return merged
