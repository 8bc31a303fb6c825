"""One command to many workers: it goes out to all; what comes back to a question is in `questions.py`.

`steering.py`, `control.py` and `inspection.py` use this and say what the commands are.
"""

# kombu is typed in part.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kombu.connection import Connection
from kombu.messaging import Producer

from djqueue.exceptions import ImproperlyConfigured
from djqueue.messaging import brokers, mailbox
from djqueue.messaging.connections import library_errors
from djqueue.messaging.mailbox import Command
from djqueue.messaging.questions import Answer, Question, opened

Nodes = str | Sequence[str] | None

#: how long replies are waited for, seconds
PATIENCE = 1.0


class Broadcaster:
    """Sends commands. Holds nothing; each call uses a connection of its own.

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
            djqueue.exceptions.ImproperlyConfigured: the broker has no way to reach all workers.
        """
        if connection is None and not reaches_all():
            raise ImproperlyConfigured(
                f"{brokers.broker()!r} cannot reach all workers, so there is no remote control over it; "
                "docs/explanation/choosing-a-broker.md tells which brokers can."
            )
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
        if not reply:
            with opened(connection) as made, library_errors(made):
                mailbox.send_command(Producer(made.default_channel, auto_declare=False), wanted, None)
            return None
        return Question(wanted, timeout, limit).ask(connection, callback)


def reaches_all() -> bool:
    """Return whether what is sent over the broker can reach every worker."""
    return "fanout" in brokers.broker().capabilities.exchanges
