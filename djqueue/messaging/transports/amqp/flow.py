"""How much RabbitMQ may push: consumers are added as the worker asks for more, and taken away when it cannot.

Each consumer has a prefetch of its own (quorum queues know no other, and RabbitMQ 4 neither). Quick tasks get
hundreds of messages in advance; slow ones as many as there are free places, so that others may have the rest.
"""

# py-amqp is not typed.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

from amqp import spec

#: whoever asks for so many at once has quick tasks, and gets the second number in advance
QUICK, IN_ADVANCE = 16, 256
#: consumers that were taken away are remembered, for what is on its way from them
MOST_GONE = 1_000


class Flow:
    """The consumers of one channel. Nothing here waits for an answer.

    `most` returns the hard limit of what may be in hand, or None; `told_cancelled` hears of queues that
    RabbitMQ stopped handing out, for instance because they were deleted.
    """

    def __init__(
        self,
        channel: Any,
        name: str,
        most: Callable[[], int | None],
        told_cancelled: Callable[[str], None],
    ) -> None:
        self._channel = channel
        self._name = name
        self._most = most
        self._told_cancelled = told_cancelled
        self._numbers = count(1)
        self._consumers: dict[str, dict[str, int]] = {}  # queue → consumer → its prefetch
        self._kept: set[str] = set()  # queues that must not be without a consumer
        self._gone: deque[str] = deque()  # consumers that were taken away, oldest first
        #: which queue a consumer is of; those that were taken away stay, for what is on its way
        self.queues: dict[str, str] = {}

    def add(self, queue: str, *, keep: bool = False) -> None:
        """Take a queue on; nothing is pushed before it is asked for.

        `keep`: RabbitMQ deletes it when nobody consumes it.
        """
        self._consumers.setdefault(queue, {})
        if keep:
            self._kept.add(queue)

    def cancel(self, queue: str) -> None:
        """Let nothing more come from a queue."""
        for consumer in self._consumers.pop(queue, {}):
            self._channel.send_method(spec.Basic.Cancel, "sb", (consumer, True))
            self._channel.cancel_callbacks.pop(consumer, None)
            self._gone.append(consumer)
        while len(self._gone) > MOST_GONE:
            del self.queues[self._gone.popleft()]

    def pause(self) -> None:
        """Let nothing come until somebody asks again."""
        for queue in [one for one in self._consumers if one not in self._kept]:
            self.cancel(queue)
            self.add(queue)

    def ask(self, wanted: int) -> None:
        """Let so many messages be in hand of each queue, those that are in hand now included."""
        if wanted >= QUICK:
            wanted = max(wanted * 2, IN_ADVANCE)
        most = self._most()
        if most is not None:
            wanted = min(wanted, max(most // max(len(self._consumers), 1), 1))
        for queue, consumers in self._consumers.items():
            missing = wanted - sum(consumers.values())
            if missing > 0:
                self._consume(queue, consumers, missing)

    def reopen(self, queues: Iterable[str], wanted: int) -> None:
        """Consume again from queues whose consumers RabbitMQ has cancelled."""
        for queue in queues:
            if queue in self._consumers:
                self._consumers[queue] = {}
        self.ask(wanted)

    def _consume(self, queue: str, consumers: dict[str, int], prefetch: int) -> None:
        consumer = f"{self._name}.{next(self._numbers)}"
        consumers[consumer] = prefetch
        self.queues[consumer] = queue
        self._channel.cancel_callbacks[consumer] = lambda _: self._told_cancelled(queue)
        self._channel.send_method(spec.Basic.Qos, "lBb", (0, min(prefetch, 65_535), False))
        self._channel.send_method(
            spec.Basic.Consume, "BssbbbbF", (0, queue, consumer, False, False, False, True, {})
        )
