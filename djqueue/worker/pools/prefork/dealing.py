"""Which child gets which job: a pure decision over the parent's book.

Quick jobs are spread and may queue behind each other for a few milliseconds; any other job goes only to a
child that starts it at once. So a short task never waits behind a long one while a child is free, and what
no child should take yet stays with the parent, in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from heapq import heapify, heappop, heapreplace

from djqueue.worker.pools import pacing
from djqueue.worker.pools.contract import Job
from djqueue.worker.pools.prefork import frames
from djqueue.worker.pools.prefork.slots import ChildSlot


def deal(waiting: deque[Job], children: Iterable[ChildSlot], now: float) -> list[tuple[ChildSlot, list[Job]]]:
    """Move jobs from `waiting` to children that should have them, and return who gets what."""
    heap = [
        (child.load, order, child)
        for order, child in enumerate(children)
        if child.takes_jobs and not child.is_stuck
    ]
    heapify(heap)
    hands: dict[int, list[Job]] = {}
    dealt: list[tuple[ChildSlot, list[Job]]] = []
    while waiting and heap:
        _, order, child = heap[0]
        cost = pacing.cost(waiting[0])
        if not child.fits(cost):
            if child.may_run != 0:
                break  # the one with the least to do: nobody else can take it either
            heappop(heap)
            continue
        job = waiting.popleft()
        child.give(job, cost, now)
        heapreplace(heap, (child.load, order, child))
        if order not in hands:
            hands[order] = []
            dealt.append((child, hands[order]))
        hands[order].append(job)
    return dealt


def as_frame(jobs: Iterable[Job]) -> frames.Frame:
    """Return the frame that hands the jobs to a child."""
    return (
        frames.JOBS,
        [
            (
                job.number,
                job.tag.encode(),
                job.message.pack_to_run(),
                job.delivery_info,
                job.starts,
                job.expected_runtime,
            )
            for job in jobs
        ],
    )
