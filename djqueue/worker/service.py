"""The one place that puts a worker together, starts it, and takes it apart.

Straight code: starting reads from top to bottom, stopping is the same list backwards. The order matters at
one point: the pool forks its nursery before this process opens a connection or starts a thread.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial

from djqueue import signals
from djqueue.conf import settings
from djqueue.core.registry import tasks
from djqueue.exceptions import ImproperlyConfigured
from djqueue.messaging import brokers, publisher
from djqueue.messaging.contract import Broker
from djqueue.messaging.delivery import Delivery
from djqueue.messaging.startboard import StartBoard
from djqueue.result import backends
from djqueue.worker import log_lines, monitoring, pools, startup
from djqueue.worker.admission import Admission
from djqueue.worker.announcer import Announcer
from djqueue.worker.autoscale import autoscaler
from djqueue.worker.commands.state import WorkerState
from djqueue.worker.components import Components
from djqueue.worker.dispatch import Dispatcher
from djqueue.worker.garbage import collected_seldom
from djqueue.worker.ledger import Ledger
from djqueue.worker.loop import Loop, Parts
from djqueue.worker.options import WorkerOptions
from djqueue.worker.pidfiles import pid_file
from djqueue.worker.revocations import Revocations
from djqueue.worker.settlement import Settler
from djqueue.worker.waiting import Waiting
from djqueue.worker.waiting_room import WaitingRoom

#: slots of the start board for each child that there may be: its own, and one while it is being replaced
SLOTS_PER_CHILD = 2
#: slots that there are at least, so that a pool can grow
LEAST_SLOTS = 256


class Worker:
    """One worker process: the loop, its pool, its place at the broker.

    `say` prints the banner. `run` returns when the worker was told to stop and everything in hand is settled
    or given back.
    """

    def __init__(self, options: WorkerOptions, say: Callable[[str], None] = print) -> None:
        self.options = options
        self._say = say

    def run(self) -> None:
        """Start, work, stop.

        Raises:
            djqueue.exceptions.ImproperlyConfigured: the broker or an option cannot serve a worker.
            djqueue.exceptions.OperationalError: the broker could not be reached at the start.
        """
        options = self.options
        with ExitStack() as stack:
            if options.pidfile:
                stack.enter_context(pid_file(options.pidfile))
            signals.worker_init.send_robust(sender=self)
            broker = self._broker()
            consumer = _consumer_id()
            slots = max(LEAST_SLOTS, _largest(options) * SLOTS_PER_CHILD)
            board = StartBoard.create(broker.start_board_path(consumer), slots)
            pool = self._pool(board)
            pool.start()
            stack.callback(pool.close)
            waiting = Waiting()
            stack.callback(waiting.close)
            startup.wait_for(broker, options.queues[0])
            if options.purge:
                self._purge(broker)
            loop, parts = self._assemble(broker, consumer, pool, waiting)
            parts.source.open(waiting.watch, loop.wake)
            stack.callback(parts.source.close)
            pool.open(waiting.watch, waiting.unwatch, waiting.wake)
            self._say(self._banner(broker))
            parts.components.start()
            stack.callback(parts.components.stop)
            log_lines.ready(options.hostname)
            signals.worker_ready.send_robust(sender=self)
            stack.callback(signals.worker_shutdown.send_robust, sender=self)
            if not pool.runs_here:
                stack.enter_context(collected_seldom())
            loop.run()
            log_lines.stopped(options.hostname, parts.ledger.totals.total())

    def _broker(self) -> Broker:
        broker = brokers.broker_to_read()
        if broker.capabilities.in_process:
            raise ImproperlyConfigured(
                f"BROKER_URL is {broker!r}: its queues live and die with one process, so no worker can share"
                " them. Set BROKER_URL to django://default (the project's database) or to a server."
            )
        return broker

    def _pool(self, board: StartBoard) -> pools.Pool:
        options = self.options
        return pools.create(
            options.pool,
            size=options.concurrency,
            board=board,
            worker=options.hostname,
            max_tasks_per_child=options.max_tasks_per_child,
            max_memory_per_child=options.max_memory_per_child,
        )

    def _assemble(
        self, broker: Broker, consumer: str, pool: pools.Pool, waiting: Waiting
    ) -> tuple[Loop, Parts]:
        options = monitoring.fitting(self.options, broker)
        components = Components(options.components)
        events = monitoring.event_stream(options, components)
        ledger, announcer = Ledger(), Announcer(sender=self, events=events)
        revocations = Revocations()
        source = broker.source(options.queues, consumer)
        admission = Admission(
            ledger,
            announcer,
            options.hostname,
            revocations,
            capabilities=broker.capabilities,
            soft_limit=options.soft_time_limit,
            hard_limit=options.time_limit,
        )
        settler = Settler(source, backends.backend(), publisher.publish, announcer.lost_lease)
        source.on_buried = partial(_tell_of_buried, admission, settler)
        dispatcher = Dispatcher(pool, ledger, admission, settler, announcer, options.hostname)
        parts = Parts(
            source=source,
            pool=pool,
            ledger=ledger,
            admission=admission,
            announcer=announcer,
            settler=settler,
            dispatcher=dispatcher,
            components=components,
            waiting=waiting,
            waiting_room=WaitingRoom(),
        )
        if options.autoscale:
            parts.autoscaler = autoscaler(pool, parts.in_hand, options.autoscale)
            components.add("autoscaler", parts.autoscaler)
        source.most_held = options.prefetch_multiplier * _largest(options) or None
        loop = Loop(parts, prefetch_multiplier=options.prefetch_multiplier, grace=options.shutdown_grace)
        state = WorkerState(
            options,
            broker,
            ledger,
            pool,
            source,
            admission,
            dispatcher,
            parts.waiting_room,
            revocations,
            events,
            monitoring.heart(options, events, pool, ledger),
            loop.stop,
            parts.autoscaler,
        )
        monitoring.watch_over(state, components, waiting.wake)
        return loop, parts

    def _purge(self, broker: Broker) -> None:
        for queue in self.options.queues:
            self._say(f"Purged {broker.purge(queue)} message(s) from queue {queue}.")

    def _banner(self, broker: Broker) -> str:
        options = self.options
        backend = backends.backend()
        facts = [
            ("broker", repr(broker)),
            ("results", backend.as_uri()),
            ("queues", ", ".join(options.queues)),
            ("pool", f"{options.pool} x {_concurrency(options)}"),
            ("late acks", "on" if settings.TASK_ACKS_LATE else "off"),
        ]
        if options.components:
            facts.append(("components", ", ".join(options.components)))
        return log_lines.banner(options.hostname, facts, sorted(tasks))


def _largest(options: WorkerOptions) -> int:
    """Return how many tasks may run at a time, as far as the options say."""
    return options.autoscale[0] if options.autoscale else options.concurrency


def _concurrency(options: WorkerOptions) -> str:
    if options.autoscale is None:
        return str(options.concurrency)
    most, least = options.autoscale
    return f"{least} to {most}"


def _consumer_id() -> str:
    """Return a name no other worker ever has; brokers know this worker by it."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def _tell_of_buried(
    admission: Admission, settler: Settler, deliveries: Iterable[Delivery], reason: str
) -> None:
    """Log what the source itself put aside, and store the end where the task is known."""
    for delivery in deliveries:
        settler.add(outcome=admission.put_aside(delivery, reason))
