"""Sending: a `Call` comes in, its message leaves for the broker, at once or when the transaction commits.

`send` and `send_many` route, announce, encode and send; what is sent inside transactions waits in
`departures`, except that a database broker writes into the one transaction that is open on its own database.
`prepare` and `publish` are the two halves, for workers: children prepare what follows a task, the parent
publishes it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence

from django.core.exceptions import SynchronousOnlyOperation

from djqueue.conf import settings
from djqueue.core.calls import Call
from djqueue.core.messages import Outgoing, WireMessage
from djqueue.core.protocol import draft, seal
from djqueue.core.retrying import ONCE, PublishPolicy
from djqueue.core.sealing import open_body
from djqueue.exceptions import ContentDisallowed, DecodeError, OperationalError
from djqueue.messaging import brokers, departures
from djqueue.messaging.contract import Broker
from djqueue.messaging.departures import Departure
from djqueue.signals import after_task_publish, before_task_publish

Using = str | Iterable[str] | None


def send(call: Call, *, on_commit: bool | None = None, using: Using = None) -> Departure:
    """Send one call; inside a transaction, when it commits.

    `on_commit` is TASK_ON_COMMIT when not given. `using` names the database aliases whose transactions
    count, instead of all that are open.

    Raises:
        djqueue.exceptions.EncodeError: the arguments cannot be written with the call's serializer.
        djqueue.exceptions.OperationalError: the broker could not be reached or refused.
        django.core.exceptions.SynchronousOnlyOperation: called in an event loop, with a database broker.
    """
    return send_many([call], on_commit=on_commit, using=using)


def send_many(
    calls: Iterable[Call],
    *,
    on_commit: bool | None = None,
    using: Using = None,
    first: Callable[[], None] | None = None,
) -> Departure:
    """Send the calls, in order and in one go; as `send` otherwise. One departure stands for all of them.

    The first call's `retry` and `retry_policy` say how often sending is tried again. `first` is called right
    before the broker gets the messages; what it raises, sending raises.
    """
    broker = brokers.broker()
    alias = broker.capabilities.transactional_alias
    if alias is not None:
        _refuse_in_event_loop(broker)
    calls = list(calls)
    policy = calls[0].publish_policy if calls else ONCE
    departure = Departure([prepare(call) for call in calls], policy, first)
    waits = settings.TASK_ON_COMMIT if on_commit is None else on_commit
    transactions = departures.open_transactions(using, home=alias) if waits else []
    if not waits and alias is not None and departures.is_inside_transaction(alias):
        if broker.transactions is None or broker.transactions.has_one_writer:
            raise OperationalError(
                f"on_commit is off, but the broker is {broker!r} and a transaction is open on {alias!r}, "
                "which has one writer at a time: the task leaves with the transaction and not before. Leave "
                "the atomic block first, or let the task be sent on commit."
            )
        with broker.transactions.beside():
            broker.send_patiently(departure.outgoing, policy)
        _announce(departure.outgoing)
        departure.mark_sent()
    elif transactions:
        if [connection.alias for connection in transactions] == [alias]:
            departure.prepare()
            broker.send_many(departure.outgoing)
            departure.is_written = True
        departures.hold(departure, transactions, _leave)
    else:
        departure.prepare()
        _hand_over(broker, departure.outgoing, policy)
        _announce(departure.outgoing)
        departure.mark_sent()
    return departure


def prepare(call: Call) -> Outgoing:
    """Return the call's message and where it goes, after the receivers of `before_task_publish` saw it.

    Raises:
        djqueue.exceptions.EncodeError: the arguments cannot be written with the call's serializer.
    """
    destination = brokers.router().place(call)
    parts = draft(call)
    if before_task_publish.receivers:
        before_task_publish.send_robust(
            sender=call.plan.name,
            body=parts.body,
            exchange=destination.exchange,
            routing_key=destination.routing_key,
            headers=parts.headers,
            properties=parts.properties,
            declare=[],
            retry_policy={},
        )
    return Outgoing(seal(parts), destination, call.due)


def publish(outgoing: Sequence[Outgoing], once: str | None = None) -> None:
    """Hand the messages to the broker now (a database broker: within the transaction that is open on it).

    What was published under the name `once` before, by whatever process, is not published again, if the
    broker can tell.

    Raises:
        djqueue.exceptions.OperationalError: the broker could not be reached or refused.
    """
    broker = brokers.broker()
    if once is None:
        broker.send_many(outgoing)
    else:
        broker.send_once(outgoing, once)
    _announce(outgoing)


def _hand_over(broker: Broker, outgoing: Sequence[Outgoing], policy: PublishPolicy) -> None:
    """Let the broker have the messages; inside its own transaction there is only one try."""
    alias = broker.capabilities.transactional_alias
    if alias is not None and departures.is_inside_transaction(alias):
        broker.send_many(outgoing)
    else:
        broker.send_patiently(outgoing, policy)


def _leave(ready: Sequence[Departure]) -> None:
    """Send what waited for a commit, all of it in one go; of several policies the first one's holds."""
    waiting = [departure for departure in ready if not departure.is_written]
    try:
        if waiting:
            for departure in waiting:
                departure.prepare()
            outgoing = [one for departure in waiting for one in departure.outgoing]
            _hand_over(brokers.broker(), outgoing, waiting[0].policy)
    except BaseException as error:
        for departure in waiting:
            departure.mark_failed(error)
        raise
    finally:
        for departure in ready:
            departure.mark_sent()
    for departure in ready:
        _announce(departure.outgoing)


def _announce(outgoing: Sequence[Outgoing]) -> None:
    if not after_task_publish.receivers:
        return
    for one in outgoing:
        body = _body(one.message)
        after_task_publish.send_robust(
            sender=one.message.headers.get("task") or (body.get("task") if isinstance(body, dict) else None),
            body=body,
            exchange=one.destination.exchange,
            routing_key=one.destination.routing_key,
            headers=one.message.headers,
        )


def _body(message: WireMessage) -> object:
    try:
        return open_body(message)
    except (ContentDisallowed, DecodeError):  # sent in a form that this process does not read itself
        return message.body


def _refuse_in_event_loop(broker: Broker) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    if not os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE"):
        raise SynchronousOnlyOperation(
            f"The broker is {broker!r}, a database, and databases must not be used directly in async code: "
            "await task.adelay(...) or task.aapply_async(...) instead."
        )
