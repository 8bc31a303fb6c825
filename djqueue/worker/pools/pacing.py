"""How many jobs may lie ready where one job runs at a time: a sum over what is known of their run times.

Pools ask it before they take jobs. What is known to be quick may be handed over by the dozen, so that a
round trip is paid once for all of them; what is slow or unknown comes one at a time, so that nothing waits
behind it.
"""

from __future__ import annotations

from collections.abc import Iterable

from djqueue.worker.pools.contract import Job

#: how much work may lie in front of one child, seconds
READY_WORK = 0.02
#: what running any task costs at least, seconds
LEAST_COST = 0.0001
#: what a task is taken to cost that never ran here, seconds
UNKNOWN_COST = 1.0
#: the most jobs that one child holds
MOST_HELD = 192


def cost(job: Job) -> float:
    """Return how long the job is taken to run, in seconds."""
    expected = job.expected_runtime
    return max(expected, LEAST_COST) if expected > 0 else UNKNOWN_COST


def is_quick(seconds: float) -> bool:
    """Return whether jobs of this cost may wait in line for one child."""
    return seconds <= READY_WORK / 2


class Pace:
    """What the jobs submitted last cost on average; the next ones are taken to be like them."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = UNKNOWN_COST

    def note(self, costs: Iterable[float]) -> None:
        """Learn from the costs of jobs that were submitted together."""
        known = list(costs)
        if known:
            self.seconds = sum(known) / len(known)

    def room(self, held: int, load: float) -> int:
        """Return how many more jobs fit behind `held` ones that will take `load` seconds."""
        fitting = int((READY_WORK - load) / self.seconds) if is_quick(self.seconds) else 0
        if not held:
            fitting = max(fitting, 1)
        return max(0, min(fitting, MOST_HELD - held))
