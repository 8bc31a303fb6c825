"""What every contender's module does with its command line, and how sending is timed.

A contender hands in its functions; one process does one verb, so that nothing warm is left from another.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

#: no more round trips are begun after so many seconds
LONGEST_ROUND_TRIPS = 15.0


def nothing_to_prepare() -> None:
    """Do nothing: the contender needs no tables."""


@dataclass(frozen=True)
class Verbs:
    """A contender. `send` sends one task and returns a handle, `wait` waits for it.

    `send_ignored` sends a task whose result nobody wants, `lateness` one that says how late it began and
    returns what waits for that. `workflows` send a group, a chord or a chain of so
    many tasks, and return a handle of its end.
    """

    send: Callable[[int], object]
    wait: Callable[[object], None]
    send_bulk: Callable[[int], None] | None = None
    send_ignored: Callable[[int], object] | None = None
    prepare: Callable[[], object] = nothing_to_prepare
    lateness: Callable[[float], Callable[[], float]] | None = None
    workflows: Mapping[str, Callable[[int], object]] = field(default_factory=dict)

    def run(self) -> None:
        """Do the verb of the command line."""
        verb, *rest = sys.argv[1:]
        count = int(rest[0]) if rest else 0
        if verb == "prepare":
            self.prepare()
        elif verb == "send":
            print(json.dumps(self._each(self.send, count)))
        elif verb == "send-ignored":
            print(json.dumps(self.send_ignored and self._each(self.send_ignored, count)))
        elif verb == "send-bulk":
            bulk = self.send_bulk
            print(json.dumps(None if bulk is None else self._in_bulk(bulk, count)))
        elif verb in ("group", "chord", "chain"):
            workflow = self.workflows.get(verb)
            print(json.dumps(None if workflow is None else self._workflow(workflow, count)))
        elif verb == "steadily":
            print(json.dumps(self.lateness and self._steadily(self.lateness, count, float(rest[1]))))
        elif verb == "round-trips":
            print(json.dumps(self._round_trips(count)))
        else:
            raise SystemExit(f"unknown verb {verb!r}")

    def _each(self, send: Callable[[int], object], count: int) -> float:
        send(0)  # connections and caches are opened by the first one
        return self._timed(lambda: [send(number) for number in range(count - 1)])

    def _in_bulk(self, send: Callable[[int], None], count: int) -> float:
        send(1)  # as above
        return self._timed(lambda: send(count - 1))

    def _round_trips(self, count: int) -> list[float]:
        """Send and wait up to `count` times; a slow contender gets fewer turns."""
        trips: list[float] = []
        while len(trips) < count and sum(trips) < LONGEST_ROUND_TRIPS:
            trips.append(self._timed(lambda: self.wait(self.send(len(trips)))))
        return trips

    def _steadily(self, send: Callable[[float], Callable[[], float]], count: int, rate: float) -> list[float]:
        """Send so many tasks, `rate` of them each second; return how late each began, in seconds."""
        send(time.time())()
        start = time.monotonic()
        waits = []
        for number in range(count):
            time.sleep(max(start + number / rate - time.monotonic(), 0))
            waits.append(send(time.time()))
        return [wait() for wait in waits]

    def _workflow(self, send: Callable[[int], object], count: int) -> list[float]:
        """Return how long sending took, and how long it was from there to the end."""
        self.wait(send(2))
        start = time.perf_counter()
        handle = send(count)
        sent = time.perf_counter()
        self.wait(handle)
        return [sent - start, time.perf_counter() - start]

    def _timed(self, work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start
