"""kombu's etcd, with queues that are queues.

kombu hands out the newest message first, forgets a queue when it is emptied, and names its locks after the
process, so that two of its threads undo each other's. Keys and contents are kombu's; `brokers` puts this in
place of kombu's transport. It needs version 2 of etcd's interface, which etcd 3.4 has with `--enable-v2`.
"""

# kombu is typed in part.
# mypy: disable-error-code="misc,no-untyped-call,attr-defined"

from __future__ import annotations

from queue import Empty
from typing import Any

from kombu.transport import etcd

from djqueue.core.names import new_id
from djqueue.messaging.transports.generic.messages import payload_of


class Channel(etcd.Channel):
    """A channel with locks of its own that hands out the oldest message first."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.lock_value = new_id()

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        with self._queue_lock(queue):
            try:
                found = self.client.read(self._key_prefix(queue), recursive=True, sorted=True)._children
            except etcd.etcd.EtcdKeyNotFound:
                found = []
            if not found:
                raise Empty
            payload = payload_of(found[0]["value"])
            self.client.delete(found[0]["key"])
            return payload

    def _delete(self, queue: str, *_: Any, **__: Any) -> None:
        self.queues.pop(queue, None)
        super()._purge(queue)

    def _purge(self, queue: str) -> int:
        waiting: int = self._size(queue)
        super()._purge(queue)
        self._new_queue(queue)
        return waiting


class Transport(etcd.Transport):
    """A transport with such channels."""

    Channel = Channel
