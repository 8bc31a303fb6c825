"""Messages that are not due yet: any djqueue consumer moves those that are due into their lists.

`promote` is called now and then and says when it wants to be called again; whichever worker comes first moves
what is due, of all queues. When the last djqueue consumer of a queue leaves, `give_up` puts what waits into
the lists, where stock workers hold it by its eta header.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from djqueue.core.messages import WireMessage
from djqueue.messaging.transports.redis import envelope, scripts
from djqueue.messaging.transports.redis.connections import Server, Wire
from djqueue.messaging.transports.redis.envelope import Unreadable
from djqueue.messaging.transports.redis.keys import Keys

#: somebody else may have added something that is due sooner: look again after so many seconds
LONGEST_PAUSE = 0.5
#: messages moved from one set in one step
MOST_AT_ONCE = 500
#: the longest that leaving may take, seconds
LEAVING = 5.0


class Delays:
    """One worker's look at the messages that wait for their time."""

    def __init__(self, wire: Wire, keys: Keys) -> None:
        self._wire = wire
        self._keys = keys
        self._lists: tuple[str, ...] = ()

    def promote(self) -> tuple[int, float]:
        """Move what is due; return how many messages that were, and in how many seconds to come back."""
        moved, soonest_ms, more, lists = self._promote(self._lists)
        known = tuple(sorted(one.decode() for one in lists))
        news = set(known).difference(self._lists)
        self._lists = known
        if more or news:
            return moved, 0.0
        return moved, LONGEST_PAUSE if soonest_ms < 0 else min(soonest_ms / 1000, LONGEST_PAUSE)

    def give_up(self, queue: str) -> None:
        """Put what waits for its time into the lists of the queue, as far as that goes in a few seconds."""
        give_up_at = time.monotonic() + LEAVING
        for list_key in self._keys.lists(queue):
            more = True
            while more and time.monotonic() < give_up_at:
                more = bool(self._promote([list_key], "all")[2])

    def _promote(self, lists: Sequence[str], which: str = "due") -> tuple[int, int, int, list[bytes]]:
        pairs = [key for one in lists for key in (one, self._keys.delayed(one))]
        moved, soonest, more, known = self._wire.run(
            scripts.PROMOTE, [self._keys.delayed_lists, *pairs], [MOST_AT_ONCE, which]
        )
        return moved, soonest, more, known


def not_due(
    server: Server, keys: Keys, queues: Sequence[str], most: int
) -> list[tuple[float, str, WireMessage]]:
    """Return up to `most` messages that wait for their time, soonest first: due, queue, message.

    What cannot be read is left out; whoever receives it deals with it.
    """
    places = [(queue, list_key) for queue in queues for list_key in keys.lists(queue)]
    replies = server.pipeline(
        [("ZRANGE", keys.delayed(list_key), 0, most - 1, "WITHSCORES") for _, list_key in places]
    )
    found = []
    for (queue, _), reply in zip(places, replies, strict=True):
        for raw, due in zip(reply[::2], reply[1::2], strict=True):
            with suppress(Unreadable):
                found.append((float(due) / 1000, queue, envelope.read(raw, "", queue).message))
    found.sort(key=lambda one: one[0])
    return found[:most]
