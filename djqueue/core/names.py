"""Who is who: names of nodes and processes, and ids.

Callers ask for a new task id, the worker for its node name, the protocol for the sender's name (`origin`)
and for the process's address for replies (`reply_to`).
"""

from __future__ import annotations

import os
import re
import socket
from functools import lru_cache
from uuid import NAMESPACE_OID, uuid3, uuid4

#: What a worker is called when nobody says (Celery's word: monitors and `-d` expect it).
DEFAULT_NODE = "celery"

_PATTERN = re.compile("%([hnd%])")
_VARIANT = "89ab" * 4
_THIS_HOST_TODAY = uuid4().int


@lru_cache(maxsize=1)
def host() -> str:
    """Return the name of this host."""
    return socket.gethostname()


def new_id() -> str:
    """Return a new random id: a UUID of version 4 as text, a good deal faster than `uuid.uuid4`."""
    digits = os.urandom(16).hex()
    return (
        f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-"
        f"{_VARIANT[int(digits[16], 16)]}{digits[17:20]}-{digits[20:]}"
    )


def expand(pattern: str, hostname: str | None = None) -> str:
    """Replace `%h` (the host), `%n` (its first part), `%d` (its domain) and `%%` in `pattern`."""
    machine = hostname or host()
    first, _, domain = machine.partition(".")
    words = {"h": machine, "n": first, "d": domain, "%": "%"}
    return _PATTERN.sub(lambda match: words[match.group(1)], pattern)


def node_name(name: str | None = None) -> str:
    """Return the full name of a worker, `name@host`, with the patterns of `expand` replaced.

    A name without `@` names the host, as in Celery's `-n`; None is `celery@<host>`.
    """
    node, at, machine = (name or "").partition("@")
    if not at:
        node, machine = "", node
    return expand(f"{node or DEFAULT_NODE}@{machine or host()}")


def origin() -> str:
    """Return how a sender signs its messages: `gen<process>@<host>`."""
    return _origin(os.getpid())


def reply_address() -> str:
    """Return the name of the queue for replies to this process, whichever of its threads waits for them."""
    return _reply_address(os.getpid())


@lru_cache(maxsize=4)
def _origin(process: int) -> str:
    return f"gen{process}@{host()}"


@lru_cache(maxsize=4)
def _reply_address(process: int) -> str:
    return str(uuid3(NAMESPACE_OID, f"{_THIS_HOST_TODAY:x}-{process:x}"))
