"""From URLs and settings to addresses; what cannot be is said without passwords."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Iterator, Sequence
from itertools import cycle
from types import SimpleNamespace
from typing import Any

import pytest

from djqueue.conf import settings
from djqueue.exceptions import ImproperlyConfigured
from djqueue.messaging.transports.amqp.server import Server


def addresses(url: str, **options: Any) -> list[dict[str, Any]]:
    return Server(url, options)._addresses


def test_an_address_is_read_as_kombu_reads_it() -> None:
    (address,) = addresses("amqp://ada:p%40ss@host:1234/shop")
    assert address == {
        "host": "host:1234",
        "userid": "ada",
        "password": "p@ss",
        "virtual_host": "shop",
        "ssl": False,
    }


@pytest.mark.parametrize(
    ("url", "vhost"), [("amqp://h//", "/"), ("amqp://h", "/"), ("pyamqp://h/%2Fa", "/a")]
)
def test_virtual_hosts(url: str, vhost: str) -> None:
    assert addresses(url)[0]["virtual_host"] == vhost
    assert addresses(url)[0]["host"] == "h:5672"


def test_tls_has_a_port_of_its_own_and_checks_the_host() -> None:
    (address,) = addresses("amqps://broker.example.com/v")
    assert address["host"] == "broker.example.com:5671"
    assert address["ssl"] == {"server_hostname": "broker.example.com"}
    with settings.override(BROKER_USE_SSL={"ca_certs": "/ca.pem", "server_hostname": None}):
        (address,) = addresses("amqp://h")
    assert address["ssl"] == {"ca_certs": "/ca.pem", "server_hostname": "h"}


def test_nodes_of_a_cluster_take_over_what_they_leave_out() -> None:
    found = addresses("amqp://ada:secret@one/shop;two:5673;amqp://bob:other@three/else")
    assert [(one["host"], one["userid"], one["virtual_host"]) for one in found] == [
        ("one:5672", "ada", "shop"),
        ("two:5673", "ada", "shop"),
        ("three:5672", "bob", "else"),
    ]


def test_passwords_of_every_node_are_hidden() -> None:
    shown = repr(Server("amqp://ada:secret@one/shop;amqp://bob:hidden@two/shop", {}))
    assert shown == "amqp://ada:**@one/shop;amqp://bob:**@two/shop"


def test_options_that_are_not_known_and_confirms_that_are_off_are_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="Did you mean 'frame_max'"):
        Server("amqp://h", {"frame_maximum": 1})
    with pytest.raises(ImproperlyConfigured, match="always has messages confirmed"):
        Server("amqp://h", {"confirm_publish": False})


@pytest.mark.parametrize("url", ["amqp://ada:se/cret@host:56", "amqp://ada:1/cret@host"])
def test_a_url_that_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        Server(url, {})
    assert "cret" not in str(caught.value)


def test_the_next_address_comes_when_one_fails() -> None:
    server = Server("amqp://one;two;three", {})
    order = []
    for _ in range(4):
        order.append(server._current)
        server._switch(server._current)
    assert order == [0, 1, 2, 0]
    server._switch(0)  # somebody else has seen to that already
    assert server._current == 1


def backwards(addresses: Sequence[int]) -> Iterator[int]:
    return cycle(reversed(addresses))


@pytest.mark.parametrize("strategy", [backwards, f"{__name__}.backwards"])
def test_a_strategy_of_ones_own_says_what_comes_next(strategy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(backwards=backwards))
    with settings.override(BROKER_FAILOVER_STRATEGY=strategy):
        server = Server("amqp://one;two;three", {})
    order = []
    for _ in range(4):
        order.append(server._current)
        server._switch(server._current)
    assert order == [0, 2, 1, 0]


def test_shuffled_addresses_are_all_tried() -> None:
    with settings.override(BROKER_FAILOVER_STRATEGY="shuffle"):
        server = Server("amqp://one;two;three", {})
    seen = set()
    for _ in range(100):
        server._switch(server._current)
        seen.add(server._current)
    assert seen == {0, 1, 2}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"ca_certs": "/ca.pem"}, {"ca_certs": "/ca.pem", "server_hostname": "h"}),
        ({"ssl_ca_certs": "/ca.pem"}, {"ca_certs": "/ca.pem", "server_hostname": "h"}),
        ({"server_hostname": "other"}, {"server_hostname": "other"}),
        ({"cert_reqs": ssl.CERT_NONE}, {"cert_reqs": ssl.CERT_NONE}),
        ({"ssl_cert_reqs": "required"}, {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "h"}),
        ({"cert_reqs": "CERT_NONE"}, {"cert_reqs": ssl.CERT_NONE}),
        ({"ssl_version": None}, {"ssl_version": None, "server_hostname": "h"}),
    ],
)
def test_certificates_are_made_out_to_the_host_unless_something_else_is_said(
    given: dict[str, Any], expected: dict[str, Any]
) -> None:
    with settings.override(BROKER_USE_SSL=given):
        assert addresses("amqp://h")[0]["ssl"] == expected
        assert Server("amqp://h", {}).ssl == expected


def test_kombu_gets_what_holds_for_every_node_of_a_cluster() -> None:
    with settings.override(BROKER_USE_SSL={"ca_certs": "/ca.pem"}):
        assert Server("amqp://one;two", {}).ssl == {"ca_certs": "/ca.pem"}
    assert Server("amqp://one;two", {}).ssl is False


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ca_cert": "/ca.pem"}, "Did you mean 'ca_certs'"),
        ({"cert_reqs": "maybe"}, "one of none, optional, required"),
    ],
)
def test_what_tls_does_not_know_is_refused(given: dict[str, Any], words: str) -> None:
    with settings.override(BROKER_USE_SSL=given), pytest.raises(ImproperlyConfigured, match=words):
        Server("amqp://h", {})
