"""Beat as a background duty of a worker: what `runworker --beat` runs in its loop.

The worker makes the object, ticks it, and stops it; the class is found by `djqueue_components` in `apps`.
"""

from __future__ import annotations

from djqueue_beat.service import Beat


class BeatComponent:
    """A beat inside a worker. Any number of workers may have one."""

    def __init__(self) -> None:
        self._beat = Beat()

    def start(self) -> None:
        """Begin; called once before the first tick."""
        self._beat.start()

    def tick(self, now: float) -> float:
        """Send what is due at `now` (monotonic seconds), and return in how many seconds to come again."""
        return self._beat.tick(now)

    def stop(self) -> None:
        """End; called once, also after errors."""
        self._beat.stop()
