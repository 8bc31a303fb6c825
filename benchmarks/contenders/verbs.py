"""What every contender's module does with its command line, and how sending is timed.

A contender hands in its functions; one process does one verb, so that nothing warm is left from another.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

#: no more round trips are begun after so many seconds
LONGEST_ROUND_TRIPS = 15.0


@dataclass(frozen=True)
class Verbs:
    """A contender. `send` sends one task and returns a handle; `wait` waits for it; `done` counts results."""

    prepare: Callable[[], None]
    send: Callable[[int], object]
    wait: Callable[[object], None]
    done: Callable[[], int]
    send_bulk: Callable[[int], None] | None = None

    def run(self) -> None:
        """Do the verb of the command line."""
        verb, *rest = sys.argv[1:]
        count = int(rest[0]) if rest else 0
        if verb == "prepare":
            self.prepare()
        elif verb == "done":
            print(self.done())
        elif verb == "send":
            self.send(0)  # connections and caches are opened by the first one
            print(json.dumps(self._timed(lambda: [self.send(number) for number in range(count - 1)])))
        elif verb == "send-bulk":
            bulk = self.send_bulk
            print(json.dumps(None if bulk is None else self._timed(lambda: bulk(count))))
        elif verb == "round-trips":
            print(json.dumps(self._round_trips(count)))
        else:
            raise SystemExit(f"unknown verb {verb!r}")

    def _round_trips(self, count: int) -> list[float]:
        """Send and wait up to `count` times; a slow contender gets fewer turns."""
        trips: list[float] = []
        while len(trips) < count and sum(trips) < LONGEST_ROUND_TRIPS:
            trips.append(self._timed(lambda: self.wait(self.send(len(trips)))))
        return trips

    def _timed(self, work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start
