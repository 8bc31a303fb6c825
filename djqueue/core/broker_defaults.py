"""Settings of brokers and queues, and what a setting is: name, default, kind, and what it does.

The first group of the page in `defaults.py`, which is where everybody looks settings up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from djqueue.core.kinds import (
    ADDRESSES,
    BOOLEAN,
    LIMIT,
    MAPPING,
    QUEUE_LIST,
    SECONDS,
    STRATEGY,
    TEXT,
    TLS,
    Kind,
    one_of,
    optional,
    whole,
)

EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of DJQUEUE."""

    name: str
    default: Any
    kind: Kind
    help: str
    unit: str = ""


BROKER = (
    Setting(
        "BROKER_URL",
        "django://default",
        ADDRESSES,
        "Where messages go: `django://<database alias>`, `redis://…`, `amqp://…`. Several RabbitMQ nodes "
        "as a list, or separated by `;`.",
    ),
    Setting(
        "BROKER_READ_URL",
        None,
        optional(ADDRESSES),
        "Where workers receive from. None: BROKER_URL.",
    ),
    Setting("BROKER_WRITE_URL", None, optional(ADDRESSES), "Where messages are sent to. None: BROKER_URL."),
    Setting("BROKER_TRANSPORT_OPTIONS", EMPTY, MAPPING, "Options of the transport."),
    Setting(
        "BROKER_HEARTBEAT",
        10.0,
        optional(SECONDS),
        "RabbitMQ: worker and server notice that the other is gone after two of these (120 in Celery). "
        "None or 0: they may not notice at all.",
    ),
    Setting(
        "BROKER_CONNECTION_TIMEOUT",
        4.0,
        LIMIT,
        "How long to try to connect to one address.",
    ),
    Setting(
        "BROKER_FAILOVER_STRATEGY",
        "round-robin",
        STRATEGY,
        "RabbitMQ: which of several addresses comes next when one cannot be reached.",
    ),
    Setting(
        "BROKER_USE_SSL",
        False,
        TLS,
        "TLS, with what `ssl` takes: `keyfile`, `certfile`, `ca_certs`, `cert_reqs`… (for Redis also with "
        "`ssl_` in front). `amqps://` and `rediss://` alone are True.",
    ),
    Setting(
        "BROKER_LOGIN_METHOD",
        None,
        optional(TEXT),
        "RabbitMQ: how to log in, such as `EXTERNAL`. None: `PLAIN`.",
    ),
    Setting(
        "BROKER_NATIVE_DELAYED_DELIVERY_QUEUE_TYPE",
        "quorum",
        one_of("quorum", "classic"),
        "RabbitMQ: the type of the queues that hold delayed tasks; as in Celery, if both are used.",
    ),
    Setting(
        "BROKER_CONNECTION_RETRY_ON_STARTUP",
        True,
        BOOLEAN,
        "A worker that starts while the broker is away waits for it; False: it ends with an error. One "
        "that runs always waits.",
    ),
    Setting(
        "BROKER_CONNECTION_MAX_RETRIES",
        100,
        optional(whole(0)),
        "How often a worker that starts tries again, after 2, 4, 6… up to 30 s. None or 0: for ever.",
        "tries",
    ),
    Setting(
        "BROKER_POOL_LIMIT",
        10,
        optional(whole(0)),
        "How many connections a process keeps for sending. None or 0: a new one each time. Connections to "
        "databases are Django's.",
        "connections",
    ),
)

QUEUES: tuple[Setting, ...] = (
    Setting(
        "TASK_QUEUES",
        None,
        optional(QUEUE_LIST),
        "The queues there are: a list of kombu's `Queue` objects or of names, or a dict "
        "`{name: {'exchange': …, 'exchange_type': …, 'routing_key': …}}`. A worker without `-Q` consumes "
        "all of them. None: TASK_DEFAULT_QUEUE.",
    ),
    Setting(
        "TASK_CREATE_MISSING_QUEUES",
        True,
        BOOLEAN,
        "A queue that nobody declared is made when it is first named; False: that is an error.",
    ),
    Setting(
        "TASK_CREATE_MISSING_QUEUE_TYPE",
        None,
        optional(one_of("classic", "quorum")),
        "The type of such queues on RabbitMQ.",
    ),
    Setting(
        "TASK_CREATE_MISSING_QUEUE_EXCHANGE_TYPE",
        None,
        optional(TEXT),
        "The type of such queues' exchanges. None: `direct`.",
    ),
    Setting(
        "TASK_DEFAULT_EXCHANGE",
        None,
        optional(TEXT),
        "The exchange of queues that name none. None: one called as TASK_DEFAULT_QUEUE.",
    ),
    Setting("TASK_DEFAULT_EXCHANGE_TYPE", "direct", TEXT, "The type of that exchange."),
    Setting(
        "TASK_DEFAULT_ROUTING_KEY",
        None,
        optional(TEXT),
        "The routing key of queues that name none. None: TASK_DEFAULT_QUEUE.",
    ),
    Setting(
        "TASK_DEFAULT_QUEUE_TYPE",
        "classic",
        one_of("classic", "quorum"),
        "The type of TASK_DEFAULT_QUEUE on RabbitMQ, unless TASK_QUEUES declares it.",
    ),
    Setting(
        "TASK_QUEUE_MAX_PRIORITY",
        None,
        optional(whole(1, 255)),
        "The argument `x-max-priority` of every queue that has none (RabbitMQ).",
    ),
)
