"""The thread that tells RabbitMQ that this worker lives, also while its loop waits for a slow store.

Nothing else is done here: a heartbeat is eight bytes, written when nothing else was for a while.
"""

from __future__ import annotations

import threading

from djqueue.messaging.transports.amqp.wire import Wire

#: the thread looks around so often within one heartbeat
ROUNDS = 6


class Pulse:
    """Beats for one wire after the other."""

    def __init__(self, heartbeat: float) -> None:
        self._pause = max(heartbeat / ROUNDS, 0.1)
        self._wire: Wire | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._live, name="djqueue-pulse", daemon=True)

    def start(self, wire: Wire) -> None:
        """Beat for this wire from now on."""
        self._wire = wire
        if not self._thread.is_alive():
            self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _live(self) -> None:
        while not self._stopping.wait(self._pause):
            wire = self._wire
            if wire is not None and wire.is_open:
                try:
                    wire.beat()
                except OSError:
                    self._wire = None  # whoever reads from it notices
