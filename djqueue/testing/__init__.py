"""Helpers for the tests of your project: what was sent, and a worker that runs it in the same process.

Tests of Django's kind mix in `TaskTestMixin`; those of pytest use the fixtures of `djqueue.testing.plugin`,
which are there without an import. Both stand on `recording` and `InProcessWorker`.
"""

from __future__ import annotations

from djqueue.testing.mixin import TaskTestMixin
from djqueue.testing.sent import Sent, SentCall, recording
from djqueue.testing.worker import InProcessWorker

__all__ = ["InProcessWorker", "Sent", "SentCall", "TaskTestMixin", "recording"]
