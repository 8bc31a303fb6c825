"""The client's side of remote control: `app.control`, and `app.control.inspect()`.

Each method broadcasts one command to workers and, where it asks for replies, collects them until the time is
up or all those named have answered. Revoking also leaves a record with the broker, so that workers that are
not up, or did not hear of it, keep to it.
"""

# kombu is typed in part.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kombu.connection import Connection
from kombu.messaging import Consumer, Producer

from djqueue.conf import settings
from djqueue.core.names import new_id
from djqueue.messaging import brokers, log_lines, mailbox
from djqueue.messaging.connections import connection, library_errors
from djqueue.messaging.mailbox import Command

Answer = dict[str, Any]
Nodes = str | Sequence[str] | None

#: how long replies are waited for, seconds
PATIENCE = 1.0


class Control:
    """Commands to workers, by Celery's names. Holds nothing; each call uses a connection of its own.

    `destination` names nodes, one or several; with `pattern` and `matcher` ("glob" or "pcre") those whose
    name fits are meant; otherwise all are. Without `reply=True` nothing is waited for and None comes back.
    """

    def broadcast(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        destination: Nodes = None,
        connection: Connection | None = None,
        reply: bool = False,
        timeout: float = PATIENCE,
        limit: int | None = None,
        callback: Callable[[Answer], None] | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
        **extra: Any,
    ) -> list[Answer] | None:
        """Send a command; with `reply`, return what came back as a list of `{node: reply}`.

        Further keywords become arguments of the command. `callback` gets each reply as it comes.

        Raises:
            djqueue.exceptions.OperationalError: the broker cannot be reached.
        """
        nodes = [destination] if isinstance(destination, str) else destination
        wanted = Command(
            command,
            {**(arguments or {}), **extra},
            None if nodes is None else list(nodes),
            pattern,
            matcher,
        )
        if limit is None and nodes:
            limit = len(nodes)
        with _opened(connection) as made, library_errors(made):
            if not reply:
                mailbox.send_command(Producer(made.default_channel, auto_declare=False), wanted, None)
                return None
            return _ask(made, wanted, timeout, limit, callback)

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
        arguments = {"task_id": task_id if isinstance(task_id, str) else ids}
        more = {"terminate": terminate, "signal": signal}
        return self.broadcast("revoke", {**arguments, **more}, destination, **how)

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

    # -- workers -------------------------------------------------------------------------------------

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

    def purge(self, connection: Connection | None = None, queues: Iterable[str] | None = None) -> int:
        """Delete what waits in the queues (the default queue); return how many messages that were."""
        broker = brokers.broker()
        return sum(broker.purge(queue) for queue in queues or [settings.TASK_DEFAULT_QUEUE])

    discard_all = purge


class Inspect:
    """Asks workers about themselves. Each method returns `{node: reply}`, or None when nobody answered.

    With a single node as `destination`, what that node replied is returned as it is. The keywords are those
    of `Control.inspect`.
    """

    def __init__(self, control: Control, destination: Nodes = None, **how: Any) -> None:
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

    def ping(self) -> Any:
        """Who is there: `{"ok": "pong"}`."""
        return self.ask("ping")

    def active(self, safe: bool | None = None) -> Any:
        """What runs now; with `safe`, arguments as text."""
        return self.ask("active", safe=safe)

    def reserved(self) -> Any:
        """What was received and has not started."""
        return self.ask("reserved")

    def scheduled(self) -> Any:
        """What waits for its time, or for its rate limit."""
        return self.ask("scheduled")

    def registered(self, *taskinfoitems: str) -> Any:
        """The names of the tasks that workers know, with the options named."""
        return self.ask("registered", taskinfoitems=taskinfoitems)

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


def _opened(given: Connection | None) -> Connection:
    # A connection is a context manager that closes itself; one that was given is cloned, not closed.
    return connection() if given is None else given.clone()


def _ask(
    made: Connection,
    command: Command,
    timeout: float,
    limit: int | None,
    callback: Callable[[Answer], None] | None,
) -> list[Answer]:
    """Send the command and return the replies that come within `timeout` seconds, at most `limit`."""
    queue = mailbox.reply_queue(new_id())
    command.ticket = new_id()
    command.reply_to = {"exchange": queue.exchange.name, "routing_key": queue.routing_key}
    replies: list[Answer] = []

    def take(body: Any, message: Any) -> None:
        brokers.clock.adjust(message.headers.get("clock"))
        if message.headers.get("ticket", command.ticket) == command.ticket and isinstance(body, dict):
            replies.append(body)
            if callback is not None:
                callback(body)

    channel = made.default_channel
    deadline = time.monotonic() + timeout
    try:
        with Consumer(channel, [queue], no_ack=True, accept=["json"], callbacks=[take]):
            mailbox.send_command(Producer(channel, auto_declare=False), command, timeout)
            while (limit is None or len(replies) < limit) and (left := deadline - time.monotonic()) > 0:
                try:
                    made.drain_events(timeout=left)
                except TimeoutError:
                    break
    finally:
        channel.after_reply_message_received(queue.name)
    return replies
