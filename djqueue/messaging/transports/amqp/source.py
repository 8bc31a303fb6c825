"""Receiving for one worker: RabbitMQ pushes, the loop takes what it has room for, answers go back together.

The connection is watched by the worker's loop; one thread sends heartbeats. When it breaks, RabbitMQ hands
out again what was in hand: what still runs here is adopted, what ended here is not run twice.
"""

# py-amqp is not typed.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import select
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count

from djqueue.conf import settings
from djqueue.core.messages import WireMessage
from djqueue.core.serialization import JSON_TYPE, LARGEST
from djqueue.exceptions import OperationalError
from djqueue.messaging import brokers
from djqueue.messaging.contract import Source, Watch
from djqueue.messaging.delivery import Delivery, Settlement
from djqueue.messaging.liveness import LifeLine
from djqueue.messaging.transports.amqp import codec, graves, topology
from djqueue.messaging.transports.amqp.flow import Flow
from djqueue.messaging.transports.amqp.letters import DUE, STARTS
from djqueue.messaging.transports.amqp.memory import Held, Memory, key_of
from djqueue.messaging.transports.amqp.publishing import Publisher
from djqueue.messaging.transports.amqp.pulse import Pulse
from djqueue.messaging.transports.amqp.server import Server
from djqueue.messaging.transports.amqp.settling import Answer, Answered, Answers, Fate
from djqueue.messaging.transports.amqp.shapes import Shapes
from djqueue.messaging.transports.amqp.wire import Arrival, Unreachable, Wire, errors_of

#: messages that lie here for so long while nobody asks for them go back to their queues, seconds
LONGEST_IDLE = 1.0
#: `tend` wants to be called at least so often, seconds
ROUND = 1.0


class AmqpSource(Source):
    """One worker's consumer. Used from the worker's loop; its thread only sends heartbeats."""

    def __init__(self, server: Server, publisher: Publisher, queues: Sequence[str], consumer: str) -> None:
        self._server = server
        self._publisher = publisher
        self.queues = tuple(dict.fromkeys(queues))
        self._consumer = consumer
        self._heartbeat: float = settings.BROKER_HEARTBEAT or 0.0
        self._board = graves.path_of(consumer)
        self._lifeline = None if self._board is None else LifeLine(self._board)
        self._poll = select.epoll()
        self._pulse = Pulse(self._heartbeat) if self._heartbeat else None
        self._wake: Callable[[], None] = lambda: None
        self._wire: Wire | None = None
        self._flow: Flow | None = None
        self._answers = Answers(publisher, consumer)
        self._shapes = Shapes()
        self._memory = Memory(3 * self._heartbeat + 10.0)
        self._trouble: OperationalError | None = None
        self._is_open = False
        self._epoch = 0
        self._channel = 0
        self._tags = count(1)
        self._inbox: deque[Arrival] = deque()
        self._held: dict[str, Held] = {}
        self._later: list[tuple[float, int, Held, bool]] = []  # due, turn, message, whether a start is owed
        self._begun: Counter[str] | None = None  # what the dead had begun, looked up once in a while
        self._to_bury: list[Settlement] = []
        self._deserted: set[str] = set()  # queues that RabbitMQ stopped handing out
        self._asked_at = time.monotonic()

    def open(self, watch: Watch, wake: Callable[[], None]) -> None:
        """Connect, and declare the queues."""
        self._wake = wake
        with self.opening():
            if self._lifeline is not None:
                self._lifeline.take()
            self._is_open = True
            self._connect()
            watch(self._poll, self._arrived)

    def receive(self, room: int) -> list[Delivery]:
        """Return up to `room` messages that have been pushed, and let RabbitMQ push as many as are wanted."""
        if room <= 0:
            return []
        wire, flow = self._ready()
        self._begun = None
        self._asked_at = time.monotonic()
        try:
            with errors_of(wire):
                flow.ask(len(self._held) + room)
                wire.take()
        except OperationalError as error:
            self._break(error)
            raise
        deliveries = self._due(room)
        while self._inbox and len(deliveries) < room:
            delivery = self._delivery(self._inbox.popleft())
            if delivery is not None:
                deliveries.append(delivery)
        if self._to_bury:
            with suppress(OperationalError):  # it stays with us, and is tried again
                self._bury()
        if self._inbox:
            self._wake()
        return deliveries

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Carry the answers out; return the deliveries whose connection is gone."""
        live: list[Answered] = []
        late: list[tuple[Settlement, Held]] = []
        lost: list[Delivery] = []
        clock = time.time()
        for one in settlements:
            held = self._held.get(one.delivery.tag)
            if held is not None and held.epoch == self._epoch:
                live.append((one, held, Fate.of(one, clock)))
                continue
            lost.append(one.delivery)
            if held is not None:
                late.append((one, held))
        self._answers.prepare(live)
        now = time.monotonic()
        for one, held in late:
            del self._held[one.delivery.tag]
            self._memory.note_late(one, held.key, now)
        for one, held, fate in live:
            del self._held[one.delivery.tag]
            if fate is Fate.KEPT:
                self._keep(held, one)
            elif fate is not Fate.BACK:
                self._memory.note_end(held.key, now)
        answers = self._answers.write(live)
        if answers:
            self._answer(answers)
        return lost

    def tend(self, now: float) -> float:
        """Notice a dead connection, consume again what was taken away, give back what nobody asks for."""
        if not self._is_open:
            return ROUND
        wire, flow = self._ready()
        try:
            with errors_of(wire):
                wire.take()
                if wire.is_silent:
                    raise Unreachable(f"RabbitMQ has not been heard of for {2 * self._heartbeat:g} s.")
                if self._deserted:
                    deserted = list(self._deserted)
                    self._deserted.clear()
                    self._declare(wire, deserted)
                    flow.reopen(deserted, len(self._held) + 1)
                if self._inbox and now - self._asked_at > LONGEST_IDLE:
                    flow.pause()
                    self._give_back(lambda _: True)
        except OperationalError as error:
            self._break(error)
            raise
        self._bury()
        soonest = self._later[0][0] - time.time() if self._later else ROUND
        if self._inbox or soonest <= 0:
            self._wake()
        return max(min(soonest, ROUND), 0.01)

    def add_queue(self, queue: str) -> None:
        """Receive from the queue as well."""
        if queue in self.queues:
            return
        wire, flow = self._ready()
        with errors_of(wire):
            self._declare(wire, [queue])
            flow.add(queue, keep=brokers.queues().get(queue).auto_delete)
            flow.ask(len(self._held) + 1)
        self.queues = (*self.queues, queue)
        self._wake()

    def cancel_queue(self, queue: str) -> None:
        """Receive nothing more from the queue; what was pushed and not handed out goes back."""
        if queue not in self.queues:
            return
        wire, flow = self._ready()
        with errors_of(wire):
            flow.cancel(queue)
            wire.take()
            self._give_back(lambda arrival: flow.queues[arrival.consumer] == queue)
        self.queues = tuple(one for one in self.queues if one != queue)

    def close(self) -> None:
        """Leave; RabbitMQ puts what was not acknowledged back where it was."""
        self._is_open = False
        if self._pulse is not None:
            self._pulse.stop()
        wire, self._wire = self._wire, None
        self._epoch += 1
        if wire is not None:
            wire.leave()
        self._poll.close()
        if self._lifeline is not None:
            self._lifeline.leave()

    # -- the connection ------------------------------------------------------------------------------

    def _ready(self) -> tuple[Wire, Flow]:
        """Return the connection, a new one if the last is broken; what broke it is told first."""
        trouble, self._trouble = self._trouble, None
        if trouble is not None:
            raise trouble
        if self._wire is None or self._flow is None:
            return self._connect()
        return self._wire, self._flow

    def _connect(self) -> tuple[Wire, Flow]:
        wire = self._server.connect(heartbeat=self._heartbeat)
        with errors_of(wire):
            self._declare(wire, self.queues)
            channel = wire.channel()
            wire.on_delivery = self._inbox.append
            flow = Flow(channel, self._consumer, lambda: self.most_held, self._deserted.add)
            for queue in self.queues:
                flow.add(queue, keep=brokers.queues().get(queue).auto_delete)
            # Room for what comes back and is still in hand, and for one that wakes the worker.
            flow.ask(len(self._held) + 1)
        self._answers.begin()
        self._channel = channel.channel_id
        self._poll.register(wire.stream.sock.fileno(), select.EPOLLIN)
        if self._pulse is not None:
            self._pulse.start(wire)
        self._wire, self._flow = wire, flow
        self._wake()
        return wire, flow

    def _declare(self, wire: Wire, queues: Iterable[str]) -> None:
        for queue in queues:
            topology.declare(wire, brokers.queues().get(queue))
            topology.bind_to_delays(wire, queue)

    def _break(self, error: OperationalError) -> None:
        """Let go of a broken connection: what was in hand will be handed out again."""
        wire, self._wire, self._flow = self._wire, None, None
        if wire is not None:
            wire.drop()
        self._epoch += 1
        self._inbox.clear()
        self._deserted.clear()
        for one in self._to_bury:
            self._held.pop(one.delivery.tag, None)
        self._to_bury = []
        self._memory.note_break(self._held.values(), time.monotonic())
        for _, _, held, started in self._later:
            if started:
                self._memory.owe(held.key)
        self._later = []
        self._wake()

    def _arrived(self) -> None:
        """Take in what came; the loop calls this when the socket can be read."""
        wire = self._wire
        if wire is None:
            return
        try:
            with errors_of(wire):
                wire.take()
        except OperationalError as error:
            self._trouble = error
            self._break(error)
        if self._inbox:
            self._wake()

    def _answer(self, answers: list[Answer]) -> None:
        """Write answers. If that fails, all comes back, and is known by then."""
        wire = self._wire
        if wire is None:
            return
        try:
            with errors_of(wire):
                wire.settle(self._channel, answers)
        except OperationalError as error:
            self._trouble = error
            self._break(error)

    # -- messages ------------------------------------------------------------------------------------

    def _delivery(self, arrival: Arrival) -> Delivery | None:
        """Return what a message becomes; None if it is dealt with here."""
        assert self._flow is not None
        queue, number = self._flow.queues[arrival.consumer], arrival.number
        self._answers.opened(number)
        if queue not in self.queues:  # it was on its way when the queue was given up
            self._answer(self._answers.answers(set(), [number]))
            return None
        try:
            properties, headers, content_type, encoding = self._shapes.read(arrival.properties)
            if len(arrival.body) > LARGEST:
                raise codec.Unreadable(f"the body has {len(arrival.body)} bytes; at most {LARGEST} are read")
        except codec.Unreadable as problem:
            self._put_aside(arrival, queue, str(problem))
            return None
        starts = headers.get(STARTS)
        starts = starts if type(starts) is int and 0 < starts < 2**31 else 0
        key = key_of(headers, properties, starts)
        if arrival.redelivered and key:
            if self._is_known(key, number):
                return None
            starts += self._memory.owed(key) + self._begun_by_the_dead()[key]
        is_delayed = arrival.exchange == topology.DELAYED
        delivery = Delivery(
            f"{next(self._tags)}:{key}",
            queue,
            WireMessage(headers, properties, arrival.body, content_type or JSON_TYPE, encoding or "utf-8"),
            starts=starts,
            redelivered=arrival.redelivered or starts > 0,
            exchange="" if is_delayed else arrival.exchange,
            routing_key=queue if is_delayed else arrival.routing_key,
        )
        held = Held(delivery, key, number, self._epoch)
        due = headers.get(DUE)
        if isinstance(due, float) and due > time.time():
            heappush(self._later, (due, next(self._tags), held, False))
            return None
        self._held[delivery.tag] = held
        return delivery

    def _is_known(self, key: str, number: int) -> bool:
        """Return whether a message that came back is one that runs here still, or has ended here."""
        held = self._memory.running(key)
        if held is not None:
            held.number, held.epoch = number, self._epoch
            return True
        if not self._memory.has_ended(key):
            return False
        self._answer(self._answers.answers({number}, []))
        return True

    def _begun_by_the_dead(self) -> Counter[str]:
        if self._begun is None:
            self._begun = graves.begun(self._board)
        return self._begun

    def _keep(self, held: Held, one: Settlement) -> None:
        """Hold a message here that is due in a moment."""
        old = held.delivery
        held.delivery = Delivery(
            f"{next(self._tags)}:{held.key}",
            old.queue,
            old.message,
            starts=old.starts + one.started,
            redelivered=old.redelivered or one.started,
            exchange=old.exchange,
            routing_key=old.routing_key,
        )
        heappush(self._later, (one.due or 0.0, next(self._tags), held, one.started))

    def _due(self, room: int) -> list[Delivery]:
        """Return up to `room` messages whose moment, for which they were held here, has come."""
        deliveries: list[Delivery] = []
        now = time.time()
        while self._later and self._later[0][0] <= now and len(deliveries) < room:
            held = heappop(self._later)[2]
            self._held[held.delivery.tag] = held
            deliveries.append(held.delivery)
        return deliveries

    def _give_back(self, chosen: Callable[[Arrival], bool]) -> None:
        """Give back what was pushed and not handed out."""
        back = [one.number for one in self._inbox if chosen(one)]
        kept = [one for one in self._inbox if not chosen(one)]
        self._inbox.clear()
        self._inbox.extend(kept)
        if back:
            self._answer([(number, False, True) for number in back])

    def _put_aside(self, arrival: Arrival, queue: str, why: str) -> None:
        """Make a dead letter of what cannot be read; its bytes are kept."""
        task_id = codec.readable_id(arrival.properties)
        message = WireMessage(
            {"id": task_id} if task_id else {},
            {},
            arrival.properties + arrival.body,
            "application/octet-stream",
            "binary",
        )
        delivery = Delivery(f"{next(self._tags)}:", queue, message, redelivered=arrival.redelivered)
        self._held[delivery.tag] = Held(delivery, "", arrival.number, self._epoch)
        self._to_bury.append(delivery.bury("undecodable", why))

    def _bury(self) -> None:
        """Make dead letters of what could not be read, and tell the worker."""
        if not self._to_bury:
            return
        buried = list(self._to_bury)
        lost = self.settle(buried)
        self._to_bury = []
        if self.on_buried is not None:
            told = [one.delivery for one in buried if one.delivery not in lost]
            self.on_buried(told, "undecodable")
