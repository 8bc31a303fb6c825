"""Whether something that failed is tried again, and when: sums without side effects.

`Task.retry` and automatic retries of tasks ask here, and the publisher when a broker does not answer; the
random source is passed in by tests.
"""

from __future__ import annotations

import difflib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: Beyond this exponent every factor exceeds any maximum.
_LARGEST_EXPONENT = 64


def may_retry(retries: int, max_retries: int | None) -> bool:
    """Return whether a task that was retried `retries` times may be retried once more (None: for ever)."""
    return max_retries is None or retries < max_retries


def backoff_factor(retry_backoff: bool | int | float) -> int | None:
    """Return the factor that the option `retry_backoff` stands for, in seconds; None when it is off."""
    if not retry_backoff:
        return None
    return int(max(1.0, float(retry_backoff)))


def backoff(
    retries: int,
    factor: int,
    maximum: int = 600,
    jitter: bool = True,
    randrange: Callable[[int], int] = random.randrange,
) -> int:
    """Return the seconds before the next try: `factor`, doubled with every retry, `maximum` at most.

    With `jitter` a whole number from 0 to that, all equally likely.
    """
    seconds: int = min(int(maximum), factor * 2 ** min(retries, _LARGEST_EXPONENT))
    if jitter:
        seconds = randrange(seconds + 1)
    return max(0, seconds)


@dataclass(frozen=True, slots=True)
class PublishPolicy:
    """How often sending is tried again, and after what pauses (seconds); kombu's names and defaults.

    The first pause is `interval_start`, each further one `interval_step` longer, none above `interval_max`.
    `max_retries` None is without limit. No try begins `timeout` seconds after the first.
    """

    max_retries: int | None = 3
    interval_start: float = 0.0
    interval_step: float = 0.2
    interval_max: float = 1.0
    timeout: float = 6.0

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> PublishPolicy:
        """Return the policy with the values given.

        Raises:
            ValueError: there is no such value, or it is no number of zero or more.
        """
        names = cls.__match_args__  # a task that is sent must not pay for `fields`
        for name, value in given.items():
            if name not in names:
                near = difflib.get_close_matches(str(name), names, n=1)
                meant = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}."
                raise ValueError(f"has no value {name!r}; {meant}")
            if value is None and name == "max_retries":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise ValueError(f"needs a number of 0 or more for {name}, not {value!r}")
        return cls(**given)

    def pauses(self) -> Iterator[float]:
        """Yield the pause before each further try."""
        pause, done = self.interval_start, 0
        while self.max_retries is None or done < self.max_retries:
            yield min(pause, self.interval_max)
            pause += self.interval_step
            done += 1


#: The policy of a call that is not to be tried again.
ONCE = PublishPolicy(max_retries=0)
