"""A server that is away: say so once, wait with growing pauses, say when it is back.

The loop never exits because a broker or a store is down. Each part that talks to one keeps an `Outage`.
"""

from __future__ import annotations

import random
from collections.abc import Callable

#: first and longest pause between tries, seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
#: one that is away again sooner was not really back: pauses go on growing, seconds
SETTLED = 5.0


class Outage:
    """Up or down, and when to try again. The clock (monotonic seconds) is passed in.

    `say_down` gets the error that began the outage, `say_up` the seconds it lasted; each is called once.
    """

    def __init__(self, say_down: Callable[[Exception], None], say_up: Callable[[float], None]) -> None:
        self._say_down = say_down
        self._say_up = say_up
        self._since: float | None = None
        self._pause = FIRST_PAUSE
        self._next_try = 0.0
        self._over_at = -SETTLED

    def may_try(self, now: float) -> bool:
        """Return whether it is time for a try."""
        return self._since is None or now >= self._next_try

    def seconds_left(self, now: float) -> float:
        """Return in how many seconds the next try is due."""
        return 0.0 if self._since is None else max(self._next_try - now, 0.0)

    def note(self, error: Exception, now: float) -> None:
        """Note a failed try; the next pause is longer, with full jitter."""
        if self._since is None:
            self._since = now
            if now - self._over_at >= SETTLED:
                self._pause = FIRST_PAUSE
            self._say_down(error)
        self._next_try = now + random.uniform(FIRST_PAUSE / 2, self._pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def over(self, now: float) -> None:
        """Note a try that worked."""
        if self._since is not None:
            self._say_up(now - self._since)
            self._since = None
            self._over_at = now
