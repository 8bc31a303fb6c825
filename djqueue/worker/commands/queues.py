"""Commands about queues: which are consumed, take one on, give one up.

What changes holds until the worker ends; after that it consumes what it was started with.
"""

from __future__ import annotations

from typing import Any

from djqueue.messaging import brokers
from djqueue.messaging.descriptions import described_queue
from djqueue.worker import log_lines
from djqueue.worker.commands.state import WorkerState
from djqueue.worker.control import control_command, inspect_command

#: the type of exchange that is meant when none is named
DIRECT = "direct"
#: what else can be said of a queue, as in the dictionary form of TASK_QUEUES (kombu's names)
QUEUE_OPTIONS = frozenset(
    {
        *("binding_arguments", "binding_key", "bindings", "consumer_arguments", "durable", "auto_delete"),
        *("exchange_arguments", "exchange_auto_delete", "exchange_durable", "delivery_mode", "exclusive"),
        *("expires", "max_length", "max_length_bytes", "max_priority", "message_ttl"),
        *("no_declare", "queue_arguments", "queue_auto_delete", "queue_durable", "queue_exclusive"),
    }
)


@inspect_command
def active_queues(state: WorkerState, **_: Any) -> list[dict[str, Any]]:
    """List the queues that the worker consumes."""
    return [described_queue(name) for name in state.source.queues]


@control_command(
    args=(("queue", str), ("exchange", str), ("exchange_type", str), ("routing_key", str)),
    signature="<queue> [exchange [type [routing_key]]]",
)
def add_consumer(
    state: WorkerState,
    queue: str,
    exchange: str | None = None,
    exchange_type: str | None = None,
    routing_key: str | None = None,
    **options: Any,
) -> dict[str, str]:
    """Consume this queue as well; that it is consumed already is fine."""
    name = _name(queue)
    known = brokers.queues()
    if name in known:
        _check(known.get(name), exchange, exchange_type, routing_key, options)
        state.source.add_queue(name)
    else:
        types = state.broker.capabilities.exchanges
        place = {"exchange": exchange or name, "exchange_type": _kind(exchange_type, types)}
        known.add(name, **place, routing_key=routing_key or name, **_options(options))
        try:
            state.source.add_queue(name)
        except Exception:
            known.remove(name)
            raise
    log_lines.consumes(state.source.queues)
    return {"ok": f"add consumer {name}"}


@control_command(args=(("queue", str),), signature="<queue>")
def cancel_consumer(state: WorkerState, queue: str, **_: Any) -> dict[str, str]:
    """Consume this queue no more; that it was not consumed is fine."""
    name = _name(queue)
    state.source.cancel_queue(name)
    log_lines.consumes(state.source.queues)
    return {"ok": f"no longer consuming from {name}"}


def _name(queue: Any) -> str:
    if not isinstance(queue, str) or not queue.strip():
        raise ValueError(f"A queue has a name; {queue!r} is none.")
    return queue


def _check(known: Any, exchange: str | None, kind: str | None, key: str | None, more: dict[str, Any]) -> None:
    """Refuse to declare a queue in another way than it is declared already.

    Raises:
        ValueError: that was asked for. An exchange type without exchange is taken for Celery's default.
    """
    asked = {"exchange": exchange, "exchange_type": kind if exchange else None, "routing_key": key, **more}
    is_so = {
        "exchange": known.exchange.name,
        "exchange_type": known.exchange.type,
        "routing_key": known.routing_key,
    }
    wrong = {name: value for name, value in asked.items() if value is not None and value != is_so.get(name)}
    if wrong:
        raise ValueError(f"Queue {known.name!r} is declared already, and not with {wrong}, but {is_so}.")


def _kind(exchange_type: str | None, known: frozenset[str]) -> str:
    if exchange_type is None:
        return DIRECT
    if exchange_type not in known and not str(exchange_type).startswith("x-"):
        types = ", ".join(sorted(known))
        raise ValueError(f"This broker has no exchanges of type {exchange_type!r}; it has {types}.")
    return exchange_type


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a queue that is declared at run time.

    Raises:
        ValueError: there is no such option.
    """
    unknown = sorted(set(given) - QUEUE_OPTIONS)
    if unknown:
        known = ", ".join(sorted(QUEUE_OPTIONS))
        raise ValueError(f"A queue has no option {', '.join(unknown)}. There are {known}.")
    return given
