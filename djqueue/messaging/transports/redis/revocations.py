"""Tasks that nobody is to run, kept in Redis so that they stay revoked whatever is restarted.

Clients and workers write here; workers read at their start and again every few seconds. Entries go when
REVOCATION_EXPIRES is over. Moments are the server's.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence

from djqueue.conf import settings
from djqueue.messaging.transports.redis import scripts
from djqueue.messaging.transports.redis.connections import Server
from djqueue.messaging.transports.redis.keys import Keys

#: ids in one step
CHUNK = 500
#: for so many tasks and so long waiting messages are searched, seconds; others end when they become due
MOST_SEARCHED, LONGEST_SEARCH = 20, 1.0
#: messages looked at in one step of a search
LOOKED_AT = 1000

_GLOB = re.compile(r"([*?\[\]\\])")


def remember(server: Server, keys: Keys, task_ids: Sequence[str]) -> None:
    """Keep the revocations; messages of few tasks that wait for their time become due."""
    for first in range(0, len(task_ids), CHUNK):
        ids = task_ids[first : first + CHUNK]
        server.run(scripts.REVOKE, [keys.revoked], [settings.REVOCATION_EXPIRES, *ids])
    if len(task_ids) <= MOST_SEARCHED:
        _hasten(server, keys, task_ids)


def since(server: Server, keys: Keys, moment: float) -> list[tuple[str, float]]:
    """Return the tasks revoked after `moment` and not too long ago, each with when that was, oldest first."""
    oldest = max(moment, time.time() - settings.REVOCATION_EXPIRES)
    reply = server.call(
        *("ZRANGE", keys.revoked, "+inf", f"({oldest:.6f}", "BYSCORE", "REV"),
        *("LIMIT", 0, settings.WORKER_REVOKES_MAX, "WITHSCORES"),
    )
    found = [(one.decode(), float(when)) for one, when in zip(reply[::2], reply[1::2], strict=True)]
    return found[::-1]


def _hasten(server: Server, keys: Keys, task_ids: Sequence[str]) -> None:
    """Let the messages of these tasks that wait for their time become due, so that a worker ends them now."""
    give_up_at = time.monotonic() + LONGEST_SEARCH
    for list_key in server.call("SMEMBERS", keys.delayed_lists):
        delayed = keys.delayed(list_key.decode())
        for task_id in task_ids:
            for raw in _found(server, delayed, task_id, give_up_at):
                server.call("ZADD", delayed, "XX", round(time.time() * 1000), raw)


def _found(server: Server, delayed: str, task_id: str, give_up_at: float) -> Iterator[bytes]:
    """Yield the messages of a task, as far as they are found in time."""
    quoted = _GLOB.sub(r"\\\1", json.dumps(task_id))
    cursor: bytes | int = 0
    while time.monotonic() < give_up_at:
        cursor, reply = server.call(
            "ZSCAN", delayed, cursor, "MATCH", f'*"id":*{quoted}*', "COUNT", LOOKED_AT
        )
        yield from reply[::2]
        if int(cursor) == 0:
            return
