"""Measures every contender of a group in turn, several rounds, and prints medians, spread and ratios.

`python -m benchmarks.run [--group redis] [--rounds 3] [--tasks 2000] [--only djqueue_redis,celery_redis]`.
Absolute figures belong to the machine; the ratios beside peers measured in the same run are what counts.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from benchmarks.lineup import CONTENDERS, GROUPS
from benchmarks.printing import table
from benchmarks.rooms import Room
from benchmarks.rounds import Figures, measure


def measured(names: Sequence[str], rounds: int, tasks: int) -> dict[str, Figures]:
    """Return what the contenders reached."""
    figures = {name: Figures() for name in names}
    for number in range(rounds):
        for name, gathered in figures.items():  # in turn, so that the machine's moods hit everybody
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr)
            with Room(name) as room:
                measure(room, tasks, gathered)
    return figures


def present(names: Sequence[str]) -> list[str]:
    """Return those that can be measured, and say how the others get here."""
    there = []
    for name in names:
        needs = CONTENDERS[name].needs
        if needs is None or needs.exists():
            there.append(name)
        else:
            print(f"{name} is left out; it comes with: {CONTENDERS[name].remedy}", file=sys.stderr)
    return there


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--group", choices=GROUPS, action="append", help="default: all, one after the other")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--only", help="contenders, separated by commas; the first one's ratios are shown")
    options = parser.parse_args()
    only = options.only.split(",") if options.only else list(CONTENDERS)
    if unknown := [name for name in only if name not in CONTENDERS]:
        parser.error(f"unknown contenders: {', '.join(unknown)}; there are {', '.join(CONTENDERS)}")
    for group in options.group or GROUPS:
        names = present([name for name in only if CONTENDERS[name].group == group])
        if not names:
            continue
        figures = measured(names, options.rounds, options.tasks)
        load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
        print(f"\n{group}: {options.tasks} tasks, {options.rounds} rounds: median (least – most)")
        print(f"{os.cpu_count()} cores, load at the end {load} over 1, 5 and 15 minutes\n")
        print(table(figures), flush=True)


if __name__ == "__main__":
    main()
