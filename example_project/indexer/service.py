"""Running a management command beside this one: started, awaited, stopped, and its log at hand.

The demo starts a worker and beat with it, the way a process manager would in production.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from django.conf import settings


class ServiceFailed(Exception):
    """A process did not do what it should; the message ends with the last lines of its log."""


class Service:
    """One `manage.py` command in a process of its own, with its output in a file."""

    def __init__(self, *arguments: str, logs: Path) -> None:
        self.name = arguments[0]
        self.log_path = logs / f"{self.name}.log"
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-u", str(settings.BASE_DIR / "manage.py"), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_for(self, text: str, seconds: float) -> None:
        """Return when `text` is in the log."""
        deadline = time.monotonic() + seconds
        while text not in self.log():
            if self._process.poll() is not None:
                raise self._failed(f"ended with exit status {self._process.returncode}")
            if time.monotonic() > deadline:
                raise self._failed(f"did not say {text!r} within {seconds:g} seconds")
            time.sleep(0.05)

    def log(self) -> str:
        """Return what it printed."""
        return self.log_path.read_text(errors="replace")

    def check(self) -> None:
        """Raise `ServiceFailed` if it has ended."""
        if self._process.poll() is not None:
            raise self._failed(f"ended with exit status {self._process.returncode}")

    def stop(self, seconds: float = 30) -> None:
        """Ask it to end (SIGTERM) and check that it did so cleanly."""
        self.check()
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise self._failed(f"did not stop within {seconds:g} seconds") from None
        if status != 0:
            raise self._failed(f"stopped with exit status {status}")

    def kill(self) -> None:
        """End it if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _failed(self, what: str) -> ServiceFailed:
        tail = "\n".join(self.log().splitlines()[-20:])
        return ServiceFailed(f"{self.name} {what}; its log {self.log_path} ends:\n{tail}")
