"""BROKER_TRANSPORT_OPTIONS reach the transport that they are for: all of them, as they were given.

Where there is a server or a client library, kombu's own channel is asked what it makes of them; for services
and servers that are not at hand another transport stands in, and tells what it was given.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import boto3
import pytest
from kombu.transport import TRANSPORT_ALIASES
from sqlalchemy import create_engine, inspect

from djqueue.exceptions import OperationalError
from djqueue.messaging import brokers
from djqueue.messaging.transports.generic.link import Link
from tests.contracts.generic.conftest import WAIT, Bench, receive
from tests.contracts.sources.conftest import ids
from tests.support.other_brokers import PrivateSqs
from tests.support.processes import Processes


def link(settings: Any, url: str, options: dict[str, Any]) -> Link:
    settings.DJQUEUE = {**settings.DJQUEUE, "BROKER_TRANSPORT_OPTIONS": options}
    return Link(url)


def test_of_sqs_all_that_says_where_and_how_long(settings: Any, sqs_server: PrivateSqs) -> None:
    options = {
        **sqs_server.options(),
        "region": "eu-north-1",
        "visibility_timeout": 77,
        "wait_time_seconds": 3,
        "queue_name_prefix": "shop-",
        "client-config": {"connect_timeout": 2},
        "fetch_message_attributes": ["All"],
        "sts_token_timeout": 800,
    }
    made = link(settings, sqs_server.url, options)
    with made.channel() as channel:
        assert (channel.region, channel.visibility_timeout, channel.wait_time_seconds) == (
            "eu-north-1",
            77,
            3,
        )
        assert channel.queue_name_prefix == "shop-"
        assert channel.sqs().meta.region_name == "eu-north-1"
        assert channel.sqs().meta.config.connect_timeout == 2
        assert channel.transport_options.items() >= options.items()
    made.close()


def test_of_sqs_queues_that_somebody_else_has_made(
    settings: Any, sqs_server: PrivateSqs, transactional_db: None
) -> None:
    address = sqs_server.url.replace("sqs://key:secret@", "http://")
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    client = boto3.client("sqs", region_name="us-east-1", endpoint_url=address, **keys)
    url = client.create_queue(QueueName=f"made-by-others-{os.getpid()}")["QueueUrl"]
    known = {"default": {"url": url, "access_key_id": "key", "secret_access_key": "secret"}}
    options = {**sqs_server.options(), "predefined_queues": known}
    settings.DJQUEUE = {**settings.DJQUEUE, "BROKER_TRANSPORT_OPTIONS": options}
    bench = Bench(brokers.broker(sqs_server.url), options)
    bench.send("a")
    assert (
        client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"][
            "ApproximateNumberOfMessages"
        ]
        == "1"
    )
    source = bench.source()
    (delivery,) = receive(source)
    assert ids([delivery]) == ["a"]
    assert source.settle([delivery.ack()]) == []
    with pytest.raises(OperationalError, match="another"):
        bench.send("b", queue="another")
    bench.close()


def test_of_sqlalchemy_the_names_of_tables(processes: Processes, tmp_path: Path) -> None:
    """In a worker's process: kombu keeps the names that were used first in one."""
    database = f"sqlite:///{tmp_path}/kombu.sqlite3"
    options = {"queue_tablename": "our_queues", "message_tablename": "our_messages", "echo": False}
    used = {"BROKER_URL": f"sqla+{database}", "BROKER_TRANSPORT_OPTIONS": options}
    worker = processes.start("runworker", "-c", "1", settings=used)
    worker.wait_for_line("djq.worker.ready", within=WAIT)
    assert worker.terminate() == 0
    engine = create_engine(database)
    assert {"our_queues", "our_messages"} <= set(inspect(engine).get_table_names())
    engine.dispose()


def test_of_kafka_what_its_clients_are_made_with(settings: Any) -> None:
    options = {
        "num_partitions": 3,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        # librdkafka brings a cluster of its own for tests: without this nobody would answer.
        "kafka_common_config": {"test.mock.num.brokers": 1, "security.protocol": "plaintext"},
        "kafka_consumer_config": {"session.timeout.ms": 7_000},
        "wait_time_seconds": 4,
    }
    made = link(settings, "confluentkafka://ada:secret@127.0.0.1:9/", options)
    with made.channel() as channel:
        config = channel.common_config
        assert (config["sasl.username"], config["sasl.mechanism"]) == ("ada", "PLAIN")
        assert config["security.protocol"] == "plaintext"
        assert channel.wait_time_seconds == 4
        assert channel.options.items() >= options.items()
    made.close()


@pytest.mark.parametrize(
    ("url", "options"),
    [
        (
            "mongodb://h/shop",
            {"default_database": "shop", "messages_collection": "m", "ttl": True, "capped_queue_size": 9},
        ),
        ("gcpubsub://projects/shop", {"ack_deadline_seconds": 99, "enable_exactly_once_delivery": True}),
        ("azureservicebus://policy:key@space", {"peek_lock_seconds": 33, "use_lock_renewal": True}),
        ("azurestoragequeues://:key@https://a.queue", {"queue_name_prefix": "shop-"}),
        ("pgmq://h/shop", {"visibility_timeout": 60, "use_notify": True, "pool_size": 3}),
        ("consul://h", {"anything": {"of": ["consul"]}}),
        ("pyro://h/kombu.broker", {"anything": None}),
        ("slmq://h", {"queue_name_prefix": "shop-"}),
        ("qpid://h", {"anything": 1}),
    ],
)
def test_of_what_is_not_at_hand_everything(
    settings: Any, monkeypatch: pytest.MonkeyPatch, url: str, options: dict[str, Any]
) -> None:
    monkeypatch.setitem(TRANSPORT_ALIASES, url.partition(":")[0], "kombu.transport.memory:Transport")
    made = link(settings, url, {**options, "max_retries": 7})
    with made.channel() as channel:
        told = channel.connection.client.transport_options
        assert told.items() >= options.items()
        assert (told["max_retries"], told["interval_start"]) == (7, 0.0)  # of kombu's patience what is said
    made.close()
