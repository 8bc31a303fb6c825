"""What a source remembers beyond one connection: when that breaks, RabbitMQ hands out again what was in hand.

A message that still runs here is adopted under its new number; one that ended here is acknowledged again and
not run; a start that was to be counted is counted. Pure: the clock is passed in.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from djqueue.messaging.delivery import Delivery, How, Settlement

#: the longest key; it is part of a delivery's tag, which has its place on the start board
LONGEST_KEY = 80
#: so many messages that ended are remembered when a connection breaks
MOST_ENDED = 20_000


class Held:
    """A delivery in hand. `number` is RabbitMQ's within `epoch`; `key` names the message to everybody."""

    __slots__ = ("delivery", "epoch", "key", "number")

    def __init__(self, delivery: Delivery, key: str, number: int, epoch: int) -> None:
        self.delivery = delivery
        self.key = key
        self.number = number
        self.epoch = epoch


class Memory:
    """Used by the loop's thread only. `horizon`: answers given so long before a break may be lost."""

    def __init__(self, horizon: float) -> None:
        self._horizon = horizon
        # On this connection, and when. The earlier ones are dropped all at once: taking them off the front
        # of a dictionary one by one becomes slower with each.
        self._ended: dict[str, float] = {}
        self._ended_earlier: dict[str, float] = {}
        self._ended_before: dict[str, float] = {}
        self._running: dict[str, Held] = {}
        self._owed: dict[str, int] = {}

    def note_end(self, key: str, now: float) -> None:
        """Note that a message was acknowledged, buried, or replaced by a copy."""
        self._ended[key] = now
        if len(self._ended) >= MOST_ENDED:
            self._ended_earlier, self._ended = self._ended, {}

    def note_late(self, one: Settlement, key: str, now: float) -> None:
        """Note the answer to a message of a broken connection: it comes back, here or elsewhere."""
        self._running.pop(key, None)
        if one.how is How.ACK and not one.early:
            self._ended_before[key] = now
        elif one.started:
            self.owe(key)

    def owe(self, key: str) -> None:
        """Note that one start is to be counted when the message comes back."""
        self._owed[key] = self._owed.get(key, 0) + 1

    def note_break(self, held: Iterable[Held], now: float) -> None:
        """Note that the connection is gone, with what was in hand."""
        oldest = now - self._horizon
        for ended in (self._ended_earlier, self._ended):
            self._ended_before |= {key: when for key, when in ended.items() if when >= oldest}
        for key in list(self._ended_before)[:-MOST_ENDED]:
            del self._ended_before[key]
        self._ended, self._ended_earlier = {}, {}
        self._running |= {one.key: one for one in held}

    def has_ended(self, key: str) -> bool:
        """Return whether the message, which came back, ended here; each end answers for one message."""
        return self._ended_before.pop(key, None) is not None

    def running(self, key: str) -> Held | None:
        """Return the delivery under which the message, which came back, is still in hand."""
        return self._running.pop(key, None)

    def owed(self, key: str) -> int:
        """Return how many starts are to be counted to the message, which came back."""
        return self._owed.pop(key, 0) if self._owed else 0


def key_of(headers: dict[str, Any], properties: dict[str, Any], starts: int) -> str:
    """Return what names an attempt of a task to everybody who gets its message; empty if nothing does."""
    task_id = headers.get("id") or properties.get("correlation_id")
    if type(task_id) is not str or not task_id:
        return ""
    key = f"{headers.get('retries') or 0}.{starts}.{task_id}"
    if len(key) <= LONGEST_KEY and key.isascii() and key.isprintable():
        return key
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:40]
