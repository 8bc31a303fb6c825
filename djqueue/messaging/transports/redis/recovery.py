"""Taking over from the dead: what a consumer held goes back to its queues when the consumer is gone.

`sweep` finds those whose process on this machine is gone, and those whose lease has ended; their messages go
back to the end that is read next. Any number of workers may do this at the same time: each message is moved
by one of them. Only messages that had been started are counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from djqueue.messaging import boards, log_lines, machines
from djqueue.messaging.startboard import read_started_tags
from djqueue.messaging.transports.redis import envelope, scripts
from djqueue.messaging.transports.redis.connections import Wire
from djqueue.messaging.transports.redis.envelope import Unreadable
from djqueue.messaging.transports.redis.keys import Keys
from djqueue.messaging.transports.redis.leases import Lease
from djqueue.messaging.transports.redis.settling import Answers, dead_letter, number_of

#: messages taken over in one step
MOST_AT_ONCE = 100


class Recovery:
    """One worker's look at the others."""

    def __init__(self, wire: Wire, keys: Keys, worker: str) -> None:
        self._wire = wire
        self._keys = keys
        self._worker = worker
        self._machine = machines.this_machine()

    def sweep(self, lease: Lease) -> int:
        """Declare the dead dead, take over what they held, and return how many messages that were."""
        bound = lease.latest_plausible() if lease.is_calm else 0.0
        graves, neighbours = self._sweep(bound, ())
        gone = [one for one in neighbours if one != lease.consumer and machines.is_gone(one)]
        if gone:
            graves, _ = self._sweep(0.0, gone)
        return sum(self._take_over(consumer) for consumer in graves)

    def _sweep(self, bound: float, gone: Sequence[str]) -> tuple[list[str], list[str]]:
        keys = self._keys
        _, graves, neighbours = self._wire.run(
            scripts.SWEEP,
            [keys.leases, keys.graves, keys.machine(self._machine)],
            [f"{bound:.0f}", *gone],
        )
        return [one.decode() for one in graves], [one.decode() for one in neighbours]

    def give_back(self, consumer: str) -> int:
        """Put what a living consumer holds back into its queues, uncounted."""
        return self._move(consumer, frozenset(), seen=True)[0]

    def _take_over(self, consumer: str) -> int:
        keys = self._keys
        noted = self._wire.call("HMGET", keys.node(consumer), "name", "queues", "started")
        name, queues, begun_once = [(value or b"").decode(errors="replace") for value in noted]
        board = boards.path_of(name) if name and machines.machine_of(consumer) == self._machine else None
        begun = _started(board)
        seen = begun is not None
        taken, counted = self._move(
            consumer, frozenset(begun_once.split()) if begun is None else begun, seen=seen
        )
        if taken:
            log_lines.recovered(taken, counted, name or consumer)
        self._forget(consumer, json.loads(queues or "[]"))
        if board is not None and machines.is_gone(consumer):
            board.unlink(missing_ok=True)
        return taken

    def _move(self, consumer: str, begun: frozenset[str], *, seen: bool) -> tuple[int, int]:
        """Put everything the consumer holds back; return how many messages, and how many of them had begun.

        `seen`: it is known of all of them whether they had.
        """
        call, keys = self._wire.call, self._keys
        tags = [tag.decode() for tag in call("SMEMBERS", keys.own(consumer))]
        # Those that were taken last go back first, so that the oldest is read next.
        tags.sort(key=number_of, reverse=True)
        taken = counted = 0
        for some in _slices(tags, MOST_AT_ONCE):
            answers = Answers(keys, consumer)
            for tag, record in zip(some, call("HMGET", keys.unacked, *some), strict=True):
                self._answer(answers, tag, record, tag in begun, seen or tag in begun)
            script_keys, arguments = answers.call(0)
            lost = self._wire.run(scripts.SETTLE, script_keys, arguments).decode().split()
            taken += len(some) - len(lost)
            counted += len(begun.intersection(some).difference(lost))
        return taken, counted

    def _answer(self, answers: Answers, tag: str, record: bytes | None, begun: bool, seen: bool) -> None:
        if record is None:  # somebody else has it, or it was settled
            answers.ack(tag)
            return
        try:
            raw, queue = envelope.from_record(record)
            delivery = envelope.read(raw, tag, queue)
        except Unreadable as error:
            answers.bury(tag, dead_letter(raw, queue, error.reason, str(error), self._worker))
        except ValueError as error:  # the record itself was not written by us
            answers.bury(tag, dead_letter(record, "", "undecodable", f"broken record: {error}", self._worker))
        else:
            list_key = self._keys.list_for(queue, delivery.message.properties.get("priority"))
            answers.release(tag, list_key, envelope.redelivered(raw, started=begun, unseen=not seen))

    def _forget(self, consumer: str, queues: Sequence[str]) -> None:
        keys = self._keys
        self._wire.run(
            scripts.FORGET,
            [
                *(keys.graves, keys.own(consumer), keys.machine(machines.machine_of(consumer)), keys.leases),
                *map(keys.consumers, queues),
            ],
            [consumer],
        )


def _started(board: Path | None) -> frozenset[str] | None:
    """Return the tags of what was being run, from the board; None if there is no board to be read."""
    try:
        return None if board is None else frozenset(read_started_tags(board))
    except OSError:
        return None


def _slices(tags: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(tags), size):
        yield tags[start : start + size]
