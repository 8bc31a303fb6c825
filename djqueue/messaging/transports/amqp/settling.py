"""Answers to deliveries: acknowledged together where they follow each other, given back, put off, or buried.

Settlements come in; what has to be safe first (dead letters in the database, copies in RabbitMQ) is done by
`prepare`, which does all or nothing; `write` returns what is to be written on the channel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum, auto

from djqueue.core.retrying import ONCE
from djqueue.messaging.delivery import How, Settlement
from djqueue.messaging.tables import deadletters
from djqueue.messaging.transports.amqp.letters import SOON, Letter, to_queue
from djqueue.messaging.transports.amqp.memory import Held
from djqueue.messaging.transports.amqp.publishing import Publisher


class Fate(Enum):
    """What is done with a message to carry an answer out."""

    DONE = auto()  #: acknowledged
    BACK = auto()  #: given back as it is
    COPIED = auto()  #: acknowledged once a copy with another count or moment is safe
    KEPT = auto()  #: held by this worker, because it is due in a moment
    BURIED = auto()  #: acknowledged once it is a dead letter

    @classmethod
    def of(cls, one: Settlement, now: float) -> Fate:
        """Return what is done to carry this answer out; `now` is in seconds since the epoch."""
        if one.how is How.ACK:
            return cls.DONE
        if one.how is How.BURY:
            return cls.BURIED
        if one.how is How.RELEASE:
            return cls.COPIED if one.started else cls.BACK
        return cls.KEPT if (one.due or 0.0) - now <= SOON else cls.COPIED


Answered = tuple[Settlement, Held, Fate]
#: number, whether all unanswered ones before it are meant as well, whether to give it back
Answer = tuple[int, bool, bool]


class Answers:
    """The books of one channel after the other. Used by the loop's thread only."""

    def __init__(self, publisher: Publisher, worker: str) -> None:
        self._publisher = publisher
        self._worker = worker
        self._line: deque[int] = deque()  # numbers in the order of their delivery
        self._open: set[int] = set()  # those without an answer

    def begin(self) -> None:
        """Begin a new channel: nothing is open on it."""
        self._line.clear()
        self._open.clear()

    def opened(self, number: int) -> None:
        """Note a delivery; numbers rise."""
        self._line.append(number)
        self._open.add(number)

    def prepare(self, answered: Sequence[Answered]) -> None:
        """Make safe what must not get lost: dead letters, and messages that go back changed.

        Raises:
            djqueue.exceptions.OperationalError: database or RabbitMQ could not be reached; nothing changed.
        """
        letters = [_copy(one) for one, _, fate in answered if fate is Fate.COPIED]
        buried = [one for one, _, fate in answered if fate is Fate.BURIED]
        if buried:
            with deadletters.kept(buried, self._worker):
                self._send(letters)
        else:
            self._send(letters)

    def write(self, answered: Sequence[Answered]) -> list[Answer]:
        """Return the answers to be written, and note them as given."""
        back = sorted([held.number for _, held, fate in answered if fate is Fate.BACK])
        done = {held.number for _, held, fate in answered if fate is not Fate.BACK and fate is not Fate.KEPT}
        return self.answers(done, back)

    def answers(self, done: set[int], back: Sequence[int]) -> list[Answer]:
        """Return the answers for numbers that are done and numbers that go back."""
        still_open, line = self._open, self._line
        still_open.difference_update(done, back)
        # First those that go back: the one that stands for several would stand for them as well.
        answers: list[Answer] = [(number, False, True) for number in back]
        last = 0
        while line and line[0] not in still_open:
            number = line.popleft()
            if number in done:
                last = number
        if last:
            answers.append((last, True, False))
        answers += [(number, False, False) for number in sorted(done) if number > last]
        return answers

    def _send(self, letters: Sequence[Letter]) -> None:
        if letters:
            self._publisher.send(letters, ONCE)


def _copy(one: Settlement) -> Letter:
    """Return the letter that takes the message's place."""
    delivery = one.delivery
    starts = delivery.starts + one.started
    return to_queue(delivery.message, delivery.queue, starts=starts, due=one.due)
