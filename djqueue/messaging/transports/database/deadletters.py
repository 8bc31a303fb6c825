"""Giving dead letters another chance.

The admin names rows; each becomes a message again, whole and with its count of starts at zero, and leaves
the table in the same transaction as it enters its queue (where the broker is another server: after that
server has it).
"""

from __future__ import annotations

from collections.abc import Iterable

from django.db import transaction

from djqueue.core.messages import Destination, Outgoing
from djqueue.messaging import brokers
from djqueue.messaging.transports.database.rows import Unreadable, to_message
from djqueue.models import DeadLetter


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
    return Outgoing(message, Destination(letter.exchange, letter.routing_key, letter.queue))
