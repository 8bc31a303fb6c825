"""The Lua scripts: each is a file beside this one that states its KEYS, ARGV and what it returns.

They come in as text when this module is imported; connections run them by their SHA-1. Scripts that must
work on a server whose memory is full begin with a write that needs none: Redis checks before the first only.
"""

from __future__ import annotations

import hashlib
from pathlib import Path


class Script:
    """One script, and the name by which a server that has seen it knows it."""

    __slots__ = ("name", "sha", "text")

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.text = path.read_text(encoding="utf-8")
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def __repr__(self) -> str:
        return f"<Script {self.name}>"


_HERE = Path(__file__).parent

PUSH = Script(_HERE / "push.lua")
SCHEDULE = Script(_HERE / "schedule.lua")
FETCH = Script(_HERE / "fetch.lua")
RESYNC = Script(_HERE / "resync.lua")
SETTLE = Script(_HERE / "settle.lua")
REGISTER = Script(_HERE / "register.lua")
RENEW = Script(_HERE / "renew.lua")
SWEEP = Script(_HERE / "sweep.lua")
FORGET = Script(_HERE / "forget.lua")
PROMOTE = Script(_HERE / "promote.lua")
REVOKE = Script(_HERE / "revoke.lua")
