"""The table of dead letters: brokers that have no place of their own keep them here, the admin revives them.

A worker buries what it gives up. Whoever is given another chance becomes a message again, whole and with its
count of starts at zero, and leaves the table in the same transaction as it enters its queue (where the broker
is another server: after that server has it).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections, router, transaction

from djqueue.core.messages import Destination, Outgoing
from djqueue.messaging import brokers
from djqueue.messaging.delivery import Settlement
from djqueue.messaging.tables import rows
from djqueue.messaging.tables.failures import errors_of
from djqueue.messaging.tables.rows import Unreadable, to_message
from djqueue.models import LONGEST_NAME, DeadLetter


@contextmanager
def kept(buried: Sequence[Settlement], worker: str) -> Iterator[None]:
    """Keep the messages with their reasons, if what is done inside succeeds as well.

    Raises:
        djqueue.exceptions.OperationalError: the database cannot keep them.
    """
    alias = router.db_for_write(DeadLetter)
    with errors_of(alias):
        connections[alias].close_if_unusable_or_obsolete()
        with transaction.atomic(using=alias):
            DeadLetter.objects.using(alias).bulk_create([_row(one, worker) for one in buried])
            yield


def _row(one: Settlement, worker: str) -> DeadLetter:
    delivery, message = one.delivery, one.delivery.message
    headers, properties = message.headers, message.properties
    return DeadLetter(
        queue=_text(delivery.queue),
        exchange=_text(delivery.exchange),
        routing_key=_text(delivery.routing_key),
        task=_text(rows.name(headers.get("task"))),
        task_id=_text(rows.name(headers.get("id") or properties.get("correlation_id"))),
        priority=rows.priority(properties.get("priority")),
        starts=delivery.starts,
        body=message.body,
        headers=_json(headers),
        properties=_json(properties),
        content_type=_text(message.content_type),
        content_encoding=_text(message.content_encoding),
        reason=one.reason,
        detail=_text(one.detail, None),
        worker=_text(worker),
    )


def _text(value: str, longest: int | None = LONGEST_NAME) -> str:
    """Return the text as every database can keep it."""
    return value.replace("\0", "").encode("utf-8", "backslashreplace").decode()[:longest]


def _json(values: Mapping[str, Any]) -> str:
    """Return headers as JSON; what JSON does not know, as it looks."""
    return json.dumps(values, separators=(",", ":"), default=_shown)


def _shown(value: Any) -> Any:
    try:
        return DjangoJSONEncoder().default(value)
    except TypeError:
        return repr(value)


def requeue(letters: Iterable[DeadLetter]) -> tuple[list[DeadLetter], list[DeadLetter]]:
    """Put the dead letters back into their queues; return those that went and those nobody can read.

    Raises:
        djqueue.exceptions.OperationalError: the broker could not be reached; nothing was changed.
    """
    sent: list[DeadLetter] = []
    unreadable: list[DeadLetter] = []
    outgoing: list[Outgoing] = []
    for letter in letters:
        try:
            outgoing.append(_outgoing(letter))
            sent.append(letter)
        except Unreadable:
            unreadable.append(letter)
    if sent:
        alias = sent[0]._state.db
        with transaction.atomic(using=alias):
            DeadLetter.objects.using(alias).filter(pk__in=[letter.pk for letter in sent]).delete()
            brokers.broker().send_many(outgoing)
    return sent, unreadable


def _outgoing(letter: DeadLetter) -> Outgoing:
    message = to_message(
        letter.body, letter.headers, letter.properties, letter.content_type, letter.content_encoding
    )
    # Straight to its queue: by way of its exchange others would get it once more.
    return Outgoing(message, Destination("", letter.queue, letter.queue))
