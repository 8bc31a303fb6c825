"""Fixtures for tests of signatures: everything in memory.

They are shared with the rooms beside this one and live in `tests/support/in_memory.py`.
"""

from __future__ import annotations

from tests.support.in_memory import in_memory, inbox, store

__all__ = ["in_memory", "inbox", "store"]
