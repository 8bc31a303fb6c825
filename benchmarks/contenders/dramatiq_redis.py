"""dramatiq on Redis or RabbitMQ, with its Results middleware: two processes of eight threads, its default.

On RabbitMQ it waits for confirms, as djqueue does. It runs without Django, which flatters its memory and its
start.
"""

from __future__ import annotations

import os
from typing import Any

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.contenders.verbs import Verbs
from benchmarks.numbers import BROKER_DB, RESULT_DB

REDIS = os.environ["BENCH_REDIS"]
broker: dramatiq.Broker = (
    RabbitmqBroker(url=os.environ["BENCH_RABBIT"], confirm_delivery=True)
    if "BENCH_RABBIT" in os.environ
    else RedisBroker(url=f"{REDIS}/{BROKER_DB}")
)
broker.add_middleware(Results(backend=RedisBackend(url=f"{REDIS}/{RESULT_DB}")))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def nothing(number: int) -> int:
    """Return the number."""
    return number


@dramatiq.actor
def ignored(number: int) -> None:
    """Do nothing: an actor that returns something without a place for it is warned about."""


def wait(message: Any) -> None:
    """Wait for one result."""
    message.get_result(block=True, timeout=30_000)


if __name__ == "__main__":
    Verbs(send=nothing.send, wait=wait, send_ignored=ignored.send).run()
