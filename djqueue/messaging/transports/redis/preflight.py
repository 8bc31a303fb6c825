"""What a worker asks of a Redis before it consumes: its version, that it keeps what it is given, whose it is.

A server and queues come in; `ImproperlyConfigured` leaves when messages would get lost or into the wrong
hands. Where the server does not tell, the worker goes ahead and says so in the log.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from djqueue.core.registry import tasks
from djqueue.exceptions import ImproperlyConfigured
from djqueue.messaging import log_lines
from djqueue.messaging.transports.redis.connections import Refused, Server
from djqueue.messaging.transports.redis.keys import Keys

#: BLMOVE, LMPOP's relatives and RPOP with a count came with this version
OLDEST = (6, 2)
#: packages whose tasks every project has
_EVERYBODYS = frozenset({"celery", "djqueue"})


def check_server(server: Server) -> None:
    """Check version and eviction.

    Raises:
        djqueue.exceptions.ImproperlyConfigured: the server is too old, or throws keys away when it is full.
        djqueue.exceptions.OperationalError: it could not be reached.
    """
    try:
        info = _facts(server.call("INFO", "server")) | _facts(server.call("INFO", "memory"))
    except Refused as refusal:
        log_lines.server_unknown(str(refusal))
        return
    version = info.get("redis_version", "")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers and numbers < OLDEST:
        raise ImproperlyConfigured(
            f"The Redis at {server.address!r} is version {version}; djqueue needs "
            f"{'.'.join(map(str, OLDEST))} or newer."
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy.startswith("allkeys") and not server.options.allow_eviction:
        raise ImproperlyConfigured(
            f"The Redis at {server.address!r} throws away any key when its memory is full "
            f"(maxmemory-policy is {policy}), queues among them. Set maxmemory-policy to noeviction, or, if "
            "losing tasks is all right, BROKER_TRANSPORT_OPTIONS['allow_eviction'] to True."
        )
    if policy != "noeviction":
        log_lines.eviction(policy)


def check_owner(server: Server, keys: Keys, queues: Sequence[str]) -> None:
    """Check that the queues are not those of another project that uses the same database by accident.

    Projects are told apart by the packages of their tasks: two that have none in common are two projects.

    Raises:
        djqueue.exceptions.ImproperlyConfigured: another project consumes one of the queues.
    """
    ours = {name.partition(".")[0] for name in tasks} - _EVERYBODYS
    if not ours or server.options.share_queues:
        return
    for queue in queues:
        theirs = set(json.loads(server.call("HGET", keys.projects, queue) or b"[]"))
        if theirs and not theirs & ours:
            raise ImproperlyConfigured(
                f"Queue {queue!r} of the Redis at {server.address!r} belongs to another project: its tasks "
                f"are in {', '.join(sorted(theirs))}, and ours in {', '.join(sorted(ours))}. Give one of "
                "them BROKER_TRANSPORT_OPTIONS['global_keyprefix'] or a database number of its own. If both "
                "are meant to share the queue, set BROKER_TRANSPORT_OPTIONS['share_queues'] to True."
            )
        if not ours <= theirs:
            server.call("HSET", keys.projects, queue, json.dumps(sorted(theirs | ours)))


def _facts(text: bytes) -> dict[str, str]:
    """Return what INFO says, by name."""
    pairs = (line.partition(":") for line in text.decode().splitlines())
    return {name: value for name, colon, value in pairs if colon}
