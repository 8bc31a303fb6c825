"""Receiving for one worker: messages are taken in batches under a lease, and answered in batches.

The loop calls in; deliveries leave. A lost reply is repaired here: what the server handed out and we never
saw is asked for, and late copies of old calls are made to fail. When the lease was lost, a new one under a
new id is taken, and what was held under the old one belongs to whoever took it over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from djqueue.exceptions import OperationalError
from djqueue.messaging import boards, brokers, log_lines, machines
from djqueue.messaging.contract import Source, Watch
from djqueue.messaging.delivery import Delivery, Settlement
from djqueue.messaging.transports.redis import bindings, envelope, scripts
from djqueue.messaging.transports.redis.address import Address
from djqueue.messaging.transports.redis.broadcasts import MARK, Broadcasts, delivery_of
from djqueue.messaging.transports.redis.connections import Refused, Server, Unreachable
from djqueue.messaging.transports.redis.delays import Delays
from djqueue.messaging.transports.redis.envelope import Unreadable
from djqueue.messaging.transports.redis.keys import Keys
from djqueue.messaging.transports.redis.leases import Lease
from djqueue.messaging.transports.redis.peeking import Peeker, peekers
from djqueue.messaging.transports.redis.preflight import check_owner, check_server
from djqueue.messaging.transports.redis.recovery import Recovery
from djqueue.messaging.transports.redis.settling import Before, Settling, number_of

#: most messages taken in one call; one call uses up so many numbers at most
MOST_AT_ONCE = 10_000
#: how often to look for the dead, seconds
SWEEP_EVERY = 1.0


class RedisSource(Source):
    """One worker's consumer. Used from the worker's loop; its threads renew the lease and wake the loop."""

    def __init__(self, server: Server, keys: Keys, queues: Sequence[str], consumer: str) -> None:
        self._server = server
        self._keys = keys
        self.queues = tuple(dict.fromkeys(queues))
        self._name = consumer
        self._lease = Lease(server, keys, self.queues, consumer, boards.path_of(consumer))
        self._wire = server.wire()
        self._settling = Settling(self._wire, keys, consumer)
        self._recovery = Recovery(self._wire, keys, consumer)
        self._delays = Delays(self._wire, keys)
        self._broadcasts = Broadcasts(server, keys, consumer)
        self._endings = {queue: envelope.record_ending(queue) for queue in self.queues}
        self._peekers: list[Peeker] = []
        self._wake: Callable[[], None] = lambda: None
        self._is_open = False
        self._turn = 0
        self._number = 0  # of the next tag
        self._held: set[str] = set()
        self._is_unsure = False  # a FETCH went out and no reply came back
        self._to_bury: list[Settlement] = []
        self._sweep_at = self._promote_at = 0.0

    @property
    def address(self) -> Address:
        """Where the messages are."""
        return self._server.address

    def open(self, watch: Watch, wake: Callable[[], None]) -> None:
        """Check the server, register, and take over at once what the dead of this machine left."""
        check_server(self._server)
        check_owner(self._server, self._keys, self.queues)
        self._wake = wake
        with self.opening():
            self._lease.take(self._wire)
            self._is_open = True
            self._bind()
            self._lease.keep(wake)
            self._recovery.sweep(self._lease)
            self._peek()
            self._listen()

    def receive(self, room: int) -> list[Delivery]:
        """Return up to `room` messages that may be run."""
        if room <= 0:
            return []
        if self._lease.is_lost:
            self._renew_id()
        if self._is_unsure:
            return self._resync()
        if not self._lease.may_start:
            raise Unreachable("The lease could not be renewed in time, so nothing new is begun.")
        told = self._read_broadcasts(room) if self._broadcasts.has_some else []
        room = min(room - len(told), MOST_AT_ONCE)
        if not room:
            return told
        try:
            taken = self._fetch(room)
        except Refused:
            if not self._lease.is_lost:
                raise
            self._renew_id()
            taken = self._fetch(room)
        deliveries = self._read(taken)
        if len(taken) < room:
            self._arm()
        elif len(deliveries) < room:
            self._wake()  # some could not be read; there may be more behind them
        return told + deliveries

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Carry the answers out; return the deliveries that others have taken over."""
        told = [one for one in settlements if one.delivery.tag.startswith(MARK)]
        if told:
            self._broadcasts.settle(told)
            settlements = [one for one in settlements if not one.delivery.tag.startswith(MARK)]
        lost = self._settling.settle(settlements)
        self._held.difference_update([one.delivery.tag for one in settlements])
        return lost

    def settle_after(self, before: Before, settlements: Sequence[Settlement]) -> list[Delivery] | None:
        """Do as `settle` does, after something else in the same step; None: not with these, nothing done."""
        if any(one.delivery.tag.startswith(MARK) for one in settlements):
            return None
        lost = self._settling.settle(settlements, before)
        self._held.difference_update([one.delivery.tag for one in settlements])
        return lost

    def tend(self, now: float) -> float:
        """Bury what could not be read, look for the dead, and move what is due."""
        if self._lease.is_lost:
            self._renew_id()
        self._bury()
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_EVERY
            if self._recovery.sweep(self._lease):
                self._wake()
        if now >= self._promote_at:
            moved, pause = self._delays.promote()
            self._promote_at = now + pause
            if moved:
                self._wake()
        told_in = self._broadcasts.ripen()
        if self._broadcasts.has_some:
            self._wake()
        return max(min(self._sweep_at - now, self._promote_at - now, told_in), 0.0)

    def add_queue(self, queue: str) -> None:
        """Receive from the queue as well."""
        if queue in self.queues:
            return
        check_owner(self._server, self._keys, [queue])
        self._consume((*self.queues, queue))
        self._wake()

    def cancel_queue(self, queue: str) -> None:
        """Receive nothing more from the queue; the last djqueue consumer also leaves no delays behind."""
        if queue not in self.queues:
            return
        self._consume(tuple(one for one in self.queues if one != queue))
        # A renewal that is on its way may name the queue once more; that is over with the lease.
        if not self._wire.run(scripts.PART, [self._keys.consumers(queue)], [self._lease.consumer]):
            self._delays.give_up(queue)

    def close(self) -> None:
        """Give back what is held, uncounted, and leave; what cannot be given back goes with the lease."""
        self._stop_peeking()
        self._broadcasts.stop()
        self._lease.stop()
        if self._is_open:
            self._is_open = False
            try:
                try:
                    self._leave()
                except Unreachable:  # the connection may have died unnoticed, and leaving twice does no harm
                    self._leave()
            except OperationalError as error:
                log_lines.not_left(str(error))
        self._wire.close()

    # -- sleeping ------------------------------------------------------------------------------------

    def _peek(self) -> None:
        lists = [self._keys.lists(queue) for queue in self.queues]
        self._peekers = peekers(self._server, lists, self._wake)
        self._arm()

    def _listen(self) -> None:
        self._broadcasts.listen(map(brokers.queues().get, self.queues), self._wake)

    def _stop_peeking(self) -> None:
        for peeker in self._peekers:
            peeker.stop()
        self._peekers = []

    def _arm(self) -> None:
        for peeker in self._peekers:
            peeker.arm()

    # -- receiving -----------------------------------------------------------------------------------

    def _fetch(self, room: int) -> list[tuple[str, str, bytes]]:
        """Take up to `room` messages; return tag, queue and bytes of each."""
        keys, consumer, queues = self._keys, self._lease.consumer, self._in_turn()
        if not queues:
            return []
        places = [
            (lists[step], queue)
            for step in range(len(self._keys.lists(queues[0])))
            for queue, lists in ((queue, self._keys.lists(queue)) for queue in queues)
        ]
        try:
            reply = self._wire.run(
                scripts.FETCH,
                [
                    *(keys.unacked, keys.unacked_index, keys.own(consumer), keys.leases, keys.node(consumer)),
                    *(list_key for list_key, _ in places),
                ],
                [consumer, room, self._number, *(self._endings[queue] for _, queue in places)],
            )
        except Unreachable:
            self._is_unsure = True
            raise
        except Refused as refusal:
            if "LEASELOST" in str(refusal):
                self._lease.is_lost = True
            raise
        taken = []
        for place, messages in zip(reply[::2], reply[1::2], strict=True):
            queue = places[place][1]
            for raw in messages:
                taken.append((f"{consumer}:{self._number}", queue, raw))
                self._number += 1
        self._held.update([tag for tag, _, _ in taken])
        return taken

    def _in_turn(self) -> Sequence[str]:
        """Return the queues in the order to look: each is first once in a round."""
        strategy = self._server.options.queue_order_strategy
        if strategy == "priority" or len(self.queues) <= 1:
            return self.queues
        if strategy == "sorted":
            return sorted(self.queues)
        self._turn = (self._turn + 1) % len(self.queues)
        return self.queues[self._turn :] + self.queues[: self._turn]

    def _read(self, taken: Sequence[tuple[str, str, bytes]]) -> list[Delivery]:
        """Return the deliveries; messages that cannot be read are put aside."""
        deliveries = []
        for tag, queue, raw in taken:
            try:
                deliveries.append(envelope.read(raw, tag, queue))
            except Unreadable as error:
                delivery = envelope.unread(raw, tag, queue)
                self._to_bury.append(delivery.bury(error.reason, str(error)))
        if self._to_bury:
            with suppress(OperationalError):  # it stays with us, and is tried again
                self._bury()
        return deliveries

    def _read_broadcasts(self, room: int) -> list[Delivery]:
        """Return what was sent to everybody."""
        deliveries = []
        for tag, copy in self._broadcasts.take(room):
            try:
                deliveries.append(delivery_of(copy, tag))
            except Unreadable as error:
                self._to_bury.append(
                    envelope.unread(copy.raw, tag, copy.queue).bury(error.reason, str(error))
                )
        return deliveries

    def _bury(self) -> None:
        """Make dead letters of what could not be read, and tell the worker."""
        if not self._to_bury:
            return
        lost = self.settle(self._to_bury)
        buried, self._to_bury = self._to_bury, []
        if self.on_buried is not None:
            for reason in sorted({one.reason for one in buried}):
                self.on_buried(
                    [one.delivery for one in buried if one.reason == reason and one.delivery not in lost],
                    reason,
                )

    def _resync(self) -> list[Delivery]:
        """After a lost reply: return what was handed to us and never arrived."""
        keys, consumer = self._keys, self._lease.consumer
        floor = self._number + MOST_AT_ONCE
        tags, records = self._wire.run(
            scripts.RESYNC, [keys.unacked, keys.own(consumer), keys.node(consumer)], [floor]
        )
        self._is_unsure = False
        self._number = floor
        missed = []
        for tag, record in zip(tags, records, strict=True):
            name = tag.decode()
            if record is not None and name not in self._held:
                raw, queue = envelope.from_record(record)
                missed.append((name, queue, raw))
        self._held.update([tag for tag, _, _ in missed])
        self._wake()
        return self._read(sorted(missed, key=lambda one: number_of(one[0])))

    # -- coming and going ----------------------------------------------------------------------------

    def _consume(self, queues: tuple[str, ...]) -> None:
        """Be the consumer of these queues and of no others."""
        if self._lease.is_lost:
            self._renew_id()
        self._lease.consume(queues, self._wire)
        self.queues = queues
        self._endings = {queue: envelope.record_ending(queue) for queue in queues}
        self._bind()
        self._stop_peeking()
        self._peek()
        self._listen()

    def _bind(self) -> None:
        """Declare the queues as kombu does, for producers that publish to an exchange."""
        with suppress(Refused):  # a full server: the bindings are most likely there already
            bindings.declare(self._server, self._keys, map(brokers.queues().get, self.queues))

    def _renew_id(self) -> None:
        """Take a new lease under a new id: what was held under the old one is no longer ours."""
        old = self._lease.consumer
        is_known = self._wire.call("EXISTS", self._keys.node(old))
        if is_known:
            log_lines.lease_lost(len(self._held))
        else:
            log_lines.data_loss(len(self._held))
        lease = self._lease.renamed()
        lease.take(self._wire)
        self._bind()
        lease.keep(self._wake)
        self._lease = lease
        self._number, self._is_unsure = 0, False
        self._held.clear()

    def _leave(self) -> None:
        """Give back what is held; when no djqueue consumer is left, also what waits for its time."""
        keys, consumer = self._keys, self._lease.consumer
        self._recovery.give_back(consumer)
        left = self._wire.run(
            scripts.FORGET,
            [
                *(keys.graves, keys.own(consumer), keys.machine(machines.machine_of(consumer)), keys.leases),
                *map(keys.consumers, self.queues),
            ],
            [consumer],
        )
        for queue, others in zip(self.queues, left[1:], strict=False):
            if not others:
                self._delays.give_up(queue)
        board = boards.path_of(self._name)
        if board is not None:
            board.unlink(missing_ok=True)
