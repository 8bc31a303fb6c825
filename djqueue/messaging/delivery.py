"""A message that a broker handed to this worker, and what becomes of it.

A source makes a `Delivery` for each message it hands out. The worker answers each exactly once with a
`Settlement`: done, given back, put off, or buried as a dead letter. Sources settle many at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from djqueue.core.messages import WireMessage


class How(StrEnum):
    """What becomes of a delivered message."""

    ACK = "ack"  #: done with: it leaves the broker
    RELEASE = "release"  #: back to the head of its queue
    DELAY = "delay"  #: kept by the broker until it is due
    BURY = "bury"  #: kept as a dead letter with a reason


class AlreadySettled(RuntimeError):
    """A delivery was settled twice; each is settled exactly once."""


class Delivery:
    """One message handed to this worker.

    `tag` names the delivery to its source (unique in the source's lifetime, at most 100 bytes of text);
    `starts` is how many times running this message was begun before this delivery without an end
    (crashes only: give-backs do not count); `redelivered` tells that it was handed out before. `holder` is
    the name under which the broker knows who holds the message, where another process may answer for it.
    """

    __slots__ = (
        *("exchange", "holder", "message", "queue", "redelivered", "routing_key", "settled", "starts", "tag"),
    )

    def __init__(
        self,
        tag: str,
        queue: str,
        message: WireMessage,
        *,
        starts: int = 0,
        redelivered: bool = False,
        exchange: str = "",
        routing_key: str = "",
    ) -> None:
        self.tag = tag
        self.holder = ""
        self.queue = queue
        self.message = message
        self.starts = starts
        self.redelivered = redelivered
        self.exchange = exchange
        self.routing_key = routing_key or queue
        self.settled = False

    @property
    def receipt(self) -> str:
        """What a child needs to answer for the message itself, see `Transactions.finishing`."""
        return f"{self.tag}@{self.holder}"

    def delivery_info(self) -> dict[str, object]:
        """Return what tasks see as `request.delivery_info` (Celery's four keys and the queue)."""
        return {
            "exchange": self.exchange,
            "routing_key": self.routing_key,
            "priority": self.message.properties.get("priority"),
            "redelivered": self.redelivered,
            "queue": self.queue,
        }

    def ack(self, *, early: bool = False) -> Settlement:
        """Done with: the message leaves the broker; `early`: before its task has run."""
        return self._settle(Settlement(self, How.ACK, early=early))

    def release(self, *, started: bool = False) -> Settlement:
        """Give the message back to the head of its queue; `started` counts one start against it."""
        return self._settle(Settlement(self, How.RELEASE, started=started))

    def delay(self, due: float, *, started: bool = False) -> Settlement:
        """Let the broker keep the message until `due` (seconds since the epoch)."""
        return self._settle(Settlement(self, How.DELAY, due=due, started=started))

    def bury(self, reason: str, detail: str = "") -> Settlement:
        """Keep the message as a dead letter; `reason` is a stable word, `detail` is for people."""
        return self._settle(Settlement(self, How.BURY, reason=reason, detail=detail))

    def _settle(self, settlement: Settlement) -> Settlement:
        if self.settled:
            raise AlreadySettled(f"Delivery {self.tag} of queue {self.queue} was settled before.")
        self.settled = True
        return settlement


@dataclass(slots=True)
class Settlement:
    """The answer to one delivery, on its way to the source that made it."""

    delivery: Delivery
    how: How
    started: bool = False
    early: bool = False
    due: float | None = None
    reason: str = ""
    detail: str = ""
