"""What many tasks take: bytes, waiting and done, processor time, and whether the rate holds.

`python -m benchmarks.capacity [--only djqueue_redis] [--tasks 200000] [--rates 116,580]`. For choosing the
size of machines; the ratios beside peers are those of `benchmarks.run`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.lineup import CONTENDERS
from benchmarks.printing import number
from benchmarks.processes import below, cpu_seconds, tree_pss
from benchmarks.rooms import Room, Workers

#: counting many rows takes a while, so it is done less often, seconds
LOOK_EVERY = 0.5
#: whoever does fewer a second is broken, tasks/s
LEAST_RATE = 200


@dataclass(frozen=True)
class Cost:
    """Processor time that has been used so far, in seconds."""

    parents: float
    children: float
    servers: float

    @classmethod
    def so_far(cls, workers: Workers, servers: Sequence[int]) -> Cost:
        """Return what has been used until now."""
        parents = [worker.pid for worker in workers]
        children = cpu_seconds([child for parent in parents for child in below(parent)])
        return cls(cpu_seconds(parents) - children, children, cpu_seconds(servers))

    def until(self, later: Cost, tasks: int) -> dict[str, float]:
        """Return what each of so many tasks has used since then, in microseconds."""
        each = 1e6 / tasks
        return {
            "worker's main process (µs of CPU a task)": (later.parents - self.parents) * each,
            "its children together (µs of CPU a task)": (later.children - self.children) * each,
            "servers (µs of CPU a task)": (later.servers - self.servers) * each,
        }


def drained(room: Room, tasks: int) -> dict[str, float]:
    """Return what so many waiting tasks take, and how quickly they go."""
    servers = below(os.getpid())
    empty = room.server.weight()
    sent_in = room.seconds("send-bulk", tasks)
    if sent_in is None:
        raise RuntimeError(f"{room.name} cannot send in bulk")
    waiting = room.server.weight()
    with room.worker() as workers:

        def when(share: float) -> tuple[int, float, Cost, float]:
            longest = tasks / LEAST_RATE + 60
            done, at = room.counted(workers, int(tasks * share), room.done, longest, LOOK_EVERY)
            return done, at, Cost.so_far(workers, servers), tree_pss([one.pid for one in workers])

        begun, begun_at, cost, memory = when(0.1)
        half, half_at, _, _ = when(0.5)
        ended, ended_at, last_cost, last_memory = when(1.0)
    kept = room.server.weight()
    return {
        "sending in bulk (tasks/s)": tasks / sent_in,
        "on the server while it waits (bytes a task)": (waiting - empty) / tasks,
        "on the server when it is done (bytes a task)": (kept - empty) / tasks,
        "draining, first half (tasks/s)": (half - begun) / (half_at - begun_at),
        "draining, second half (tasks/s)": (ended - half) / (ended_at - half_at),
        **cost.until(last_cost, ended - begun),
        "worker after a tenth (MB)": memory,
        "worker at the end (MB)": last_memory,
    }


def steady(room: Room, rate: float, seconds: float) -> dict[str, float]:
    """Return what tasks take that are sent at this rate, and how late they begin."""
    servers, tasks = below(os.getpid()), int(rate * seconds)
    with room.worker() as workers:
        room.verb("steadily", 10, 10)
        before = Cost.so_far(workers, servers)
        late = sorted(json.loads(room.verb("steadily", tasks, rate)))
        cost = before.until(Cost.so_far(workers, servers), tasks)
    return {
        "begun, median (ms after it was sent)": late[len(late) // 2] * 1000,
        "begun, 99th percentile (ms)": late[int(len(late) * 0.99)] * 1000,
        **cost,
    }


def main() -> None:
    """Measure and print."""
    ours = [name for name in CONTENDERS if name.startswith("djqueue_")]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help=f"default: {','.join(ours)}")
    parser.add_argument("--tasks", type=int, default=200_000)
    parser.add_argument("--rates", default="116,580", help="of steady sending, tasks/s")
    parser.add_argument("--seconds", type=float, default=60, help="how long each of them is held")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else ours
    if unknown := [name for name in names if name not in CONTENDERS]:
        parser.error(f"unknown contenders: {', '.join(unknown)}; there are {', '.join(CONTENDERS)}")
    columns: list[dict[str, float]] = []
    for name in names:
        print(name, file=sys.stderr)
        with Room(name) as room:
            figures = drained(room, options.tasks)
        for rate in map(float, options.rates.split(",")):
            with Room(name) as room:
                found = steady(room, rate, options.seconds)
            figures |= {f"at {rate:g} a second: {question}": value for question, value in found.items()}
        columns.append(figures)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{options.tasks:,} tasks, {os.cpu_count()} cores")
    print(f"load at the end {load} over 1, 5 and 15 minutes\n")
    print("| " + " | ".join(["", *names]) + " |")
    print("|---" * (1 + len(names)) + "|")
    for question in columns[0]:
        print("| " + " | ".join([question, *(number(one[question]) for one in columns)]) + " |")


if __name__ == "__main__":
    main()
