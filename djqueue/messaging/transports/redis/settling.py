"""Carrying out the answers to deliveries, each exactly once, whatever becomes of the replies.

Settlements come in and the deliveries that were no longer ours leave. Each call to Redis has a number, and
Redis keeps a receipt of the last: when a reply is lost, the same call is sent again and answers what it
answered the first time. Messages that stay in Redis are moved there byte for byte, apart from their counts.
"""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from djqueue.messaging.delivery import Delivery, How, Settlement
from djqueue.messaging.transports.redis import envelope, scripts
from djqueue.messaging.transports.redis.connections import Refused, Unreachable, Wire
from djqueue.messaging.transports.redis.keys import Keys
from djqueue.messaging.transports.redis.scripts import Script

#: dead letters that are kept, and for how long, ms
MOST_DEAD, DEAD_KEPT = 10_000, 7 * 24 * 3600 * 1000
#: answers in one call
MOST_ANSWERS = 500


class Before(NamedTuple):
    """What is to be done in the same step as answers and before them: a script that joins SETTLE's.

    `joint` is the script followed by SETTLE; `databases` are those of the two. It must not matter if it is
    carried out again. `in_steps` does the same before SETTLE alone, where the script leaves it undecided.
    """

    joint: Script
    databases: tuple[int, int]
    keys: list[bytes]
    arguments: list[Any]
    in_steps: Callable[[], None]


class Answers:
    """What one call of SETTLE is to do, for one owner of tags."""

    def __init__(self, keys: Keys, owner: str) -> None:
        self._keys = keys
        self._owner = owner
        self._acks: list[str] = []
        self._others: list[Any] = []
        self._lists: list[str] = []
        self.tags: list[str] = []

    def ack(self, tag: str) -> None:
        """The message is done with."""
        self.tags.append(tag)
        self._acks.append(tag)

    def release(self, tag: str, list_key: str, raw: bytes) -> None:
        """The message goes to the end of the list that is read next."""
        self.tags.append(tag)
        self._others += ("release", tag, self._number_of(list_key), raw, "")

    def delay(self, tag: str, list_key: str, raw: bytes, due: float) -> None:
        """The message is kept until `due`, in seconds since the epoch, and goes into the list then."""
        self.tags.append(tag)
        self._others += ("delay", tag, self._number_of(list_key), raw, round(due * 1000))

    def bury(self, tag: str, record: bytes) -> None:
        """The record becomes a dead letter."""
        self.tags.append(tag)
        self._others += ("bury", tag, 0, record, "")

    def call(self, number: int) -> tuple[list[str], list[Any]]:
        """Return keys and arguments of SETTLE."""
        keys = self._keys
        fixed = [
            *(keys.unacked, keys.unacked_index, keys.own(self._owner), keys.node(self._owner)),
            *(keys.delayed_lists, keys.dead, keys.dead_index),
        ]
        pairs = [key for one in self._lists for key in (one, keys.delayed(one))]
        arguments = [number, MOST_DEAD, DEAD_KEPT, len(self._acks), *self._acks, *self._others]
        return fixed + pairs, arguments

    def _number_of(self, list_key: str) -> int:
        """Return the place of a list among the script's KEYS, counted from 1 as Lua does."""
        if list_key not in self._lists:
            self._lists.append(list_key)
        return 8 + 2 * self._lists.index(list_key)


class Settling:
    """The answers of one worker, over the wire of its loop."""

    def __init__(self, wire: Wire, keys: Keys, worker: str) -> None:
        self._wire = wire
        self._keys = keys
        self._worker = worker
        self._number = 0
        #: calls whose reply was lost, each as it was
        self._unsure: list[tuple[Answers, int, Before | None]] = []
        #: tag → whether it was lost, of answers that were carried out while their caller saw an error
        self._answered: dict[str, bool] = {}

    def settle(self, settlements: Sequence[Settlement], before: Before | None = None) -> list[Delivery]:
        """Carry the answers out; return the deliveries that were no longer ours.

        Nothing is answered unless `before` has been carried out.

        Raises:
            djqueue.exceptions.OperationalError: not all of them could be; the same may be asked for again.
        """
        while self._unsure:
            self._carry_out(*self._unsure[0])
            del self._unsure[0]
        todo = [one for one in settlements if one.delivery.tag not in self._answered]
        if any(one.how is not How.ACK for one in todo):
            # What was received first goes last to the end that is read next.
            todo.sort(key=lambda one: number_of(one.delivery.tag), reverse=True)
        for start in range(0, len(todo), MOST_ANSWERS):
            for answers in self._grouped(todo[start : start + MOST_ANSWERS]):
                self._number += 1
                try:
                    self._carry_out(answers, self._number, before)
                except Unreachable:
                    self._unsure.append((answers, self._number, before))
                    raise
                before = None
        if before is not None:
            self._carry_out(Answers(self._keys, self._worker), 0, before)
        return [one.delivery for one in settlements if self._answered.pop(one.delivery.tag)]

    def records(self, tags: Sequence[str]) -> dict[str, bytes]:
        """Return the messages of tags that are still held, as they are in Redis."""
        found = self._wire.call("HMGET", self._keys.unacked, *tags)
        return {
            tag: envelope.from_record(record)[0]
            for tag, record in zip(tags, found, strict=True)
            if record is not None
        }

    def _carry_out(self, answers: Answers, number: int, before: Before | None) -> None:
        keys, arguments = answers.call(number)
        if before is None:
            answer = self._wire.run(scripts.SETTLE, keys, arguments)
        else:
            told = (len(before.keys), len(before.arguments), *before.databases)
            try:
                answer = self._wire.run(
                    before.joint, [*before.keys, *keys], [*told, *before.arguments, *arguments]
                )
            except Refused as refusal:
                if not refusal.is_undecided:
                    raise
                before.in_steps()
                answer = self._wire.run(scripts.SETTLE, keys, arguments)
        lost = set(answer.decode().split())
        for tag in answers.tags:
            self._answered[tag] = tag in lost

    def _grouped(self, settlements: Sequence[Settlement]) -> Iterable[Answers]:
        """Return what to do, for each consumer id this worker held the messages under."""
        groups: dict[str, Answers] = {}
        moved = [one.delivery.tag for one in settlements if one.how is not How.ACK]
        records = self.records(moved) if moved else {}
        for one in settlements:
            tag = one.delivery.tag
            owner = tag.rpartition(":")[0]
            answers = groups.get(owner)
            if answers is None:
                answers = groups[owner] = Answers(self._keys, owner)
            raw = records.get(tag)
            if one.how is How.ACK or raw is None:
                answers.ack(tag)
            else:
                self._move(answers, one, raw)
        return groups.values()

    def _move(self, answers: Answers, one: Settlement, raw: bytes) -> None:
        delivery = one.delivery
        list_key = self._keys.list_for(delivery.queue, delivery.message.properties.get("priority"))
        if one.how is How.RELEASE:
            answers.release(delivery.tag, list_key, envelope.redelivered(raw, started=one.started))
        elif one.how is How.DELAY:
            assert one.due is not None
            marked = envelope.redelivered(raw, started=True) if one.started else raw
            answers.delay(delivery.tag, list_key, marked, one.due)
        else:
            record = dead_letter(raw, delivery.queue, one.reason, one.detail, self._worker, delivery.starts)
            answers.bury(delivery.tag, record)


def number_of(tag: str) -> int:
    """Return the number of a delivery's tag: they are counted up as messages are received."""
    return int(tag.rpartition(":")[2])


def dead_letter(raw: bytes, queue: str, reason: str, detail: str, worker: str, starts: int = 0) -> bytes:
    """Return the record of a dead letter. The message is in it as it was: as text, or else as base64."""
    record: dict[str, Any] = {
        "reason": reason,
        "detail": detail[:2000],
        "queue": queue,
        "worker": worker,
        "starts": starts,
        "buried": time.time(),
    }
    try:
        record["message"] = raw.decode()
    except UnicodeDecodeError:
        record["message_base64"] = b64encode(raw).decode("ascii")
    return json.dumps(record).encode()
