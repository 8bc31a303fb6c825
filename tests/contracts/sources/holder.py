"""A consumer in a process of its own, to be killed by tests.

Called with a broker URL, a queue, how many messages to claim and how many of those to mark as running, and
perhaps `given up`, to consume the queue no more; says `holding` when it has done so, then waits for its end.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import django

from tests.support.waiting import wait_until


def main(url: str, queue: str, claim: int, start: int, *, given_up: bool) -> None:
    """Claim, mark, say so, wait."""
    # Imported once Django is set up: these need its apps.
    from djqueue.messaging import brokers  # noqa: PLC0415
    from djqueue.messaging.startboard import StartBoard  # noqa: PLC0415

    broker = brokers.broker(url)
    consumer = f"holder-{os.getpid()}"
    board = StartBoard.create(broker.start_board_path(consumer), max(start, 1))
    source = broker.source([queue], consumer)
    source.open(lambda fileobj, callback: None, lambda: None)
    deliveries = []

    def has_all() -> bool:
        deliveries.extend(source.receive(claim - len(deliveries)))
        return len(deliveries) == claim

    wait_until(has_all, within=10, because=f"for {claim} messages")
    for slot, delivery in enumerate(deliveries[:start]):
        board.start(slot, slot + 1, delivery.tag.encode(), time.monotonic())
    if given_up:
        source.cancel_queue(queue)
    sys.stdout.write("holding\n")
    sys.stdout.flush()
    signal.pause()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.project.settings")
    django.setup()
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), given_up="given up" in sys.argv[5:])
