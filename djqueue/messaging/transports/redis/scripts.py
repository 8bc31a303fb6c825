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

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    @classmethod
    def read(cls, path: Path) -> Script:
        """Return the script in that file."""
        return cls(path.stem, path.read_text(encoding="utf-8"))

    def then(self, second: Script) -> Script:
        """Return one script that carries out both, the second only after the first has not failed.

        It takes four arguments more, in front: how many keys and how many arguments are the first one's, and
        the databases in which each of them works. It returns what the second returns, or the error of the
        first.
        """
        return Script(
            f"{self.name}_then_{second.name}",
            f"local function first(KEYS, ARGV)\n{self.text}\nend\n"
            f"local function second(KEYS, ARGV)\n{second.text}\nend\n"
            "local keys, arguments = tonumber(ARGV[1]), tonumber(ARGV[2])\n"
            "local function part(list, from, to)\n"
            "  local some = {}\n"
            "  for i = from, to do some[#some + 1] = list[i] end\n"
            "  return some\n"
            "end\n"
            "if ARGV[3] ~= ARGV[4] then redis.call('SELECT', ARGV[3]) end\n"
            "local told = first(part(KEYS, 1, keys), part(ARGV, 5, arguments + 4))\n"
            "if type(told) == 'table' and told.err then return told end\n"
            "if ARGV[3] ~= ARGV[4] then redis.call('SELECT', ARGV[4]) end\n"
            "return second(part(KEYS, keys + 1, #KEYS), part(ARGV, arguments + 5, #ARGV))\n",
        )

    def __repr__(self) -> str:
        return f"<Script {self.name}>"


_HERE = Path(__file__).parent

PUSH = Script.read(_HERE / "push.lua")
SCHEDULE = Script.read(_HERE / "schedule.lua")
FETCH = Script.read(_HERE / "fetch.lua")
RESYNC = Script.read(_HERE / "resync.lua")
SETTLE = Script.read(_HERE / "settle.lua")
REGISTER = Script.read(_HERE / "register.lua")
RENEW = Script.read(_HERE / "renew.lua")
SWEEP = Script.read(_HERE / "sweep.lua")
FORGET = Script.read(_HERE / "forget.lua")
PART = Script.read(_HERE / "part.lua")
PROMOTE = Script.read(_HERE / "promote.lua")
REVOKE = Script.read(_HERE / "revoke.lua")
