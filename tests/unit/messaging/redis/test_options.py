"""Options and URLs: what is understood, what is refused, and that no refusal shows a password.

Nothing here opens a connection.
"""

from __future__ import annotations

from typing import Any

import pytest
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.credentials import UsernamePasswordCredentialProvider
from redis.sentinel import SentinelManagedConnection

from djqueue.exceptions import ImproperlyConfigured
from djqueue.messaging.transports.redis.address import Address
from djqueue.messaging.transports.redis.options import WITHOUT_EFFECT, Options


def connection(url: str, **options: Any) -> Any:
    return Address(url, Options.read(options)).connection()


def test_without_options_there_are_kombus_defaults() -> None:
    options = Options.read({})
    assert (options.global_keyprefix, options.sep, options.priority_steps) == ("", "\x06\x16", (0, 3, 6, 9))
    assert (options.unacked_key, options.unacked_index_key) == ("unacked", "unacked_index")


def test_options_that_only_stock_consumers_need_are_accepted() -> None:
    assert Options.read(dict.fromkeys(WITHOUT_EFFECT, 1)) == Options.read({})


def test_a_misspelt_option_is_an_error_that_says_what_was_meant() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"\['global_key_prefix'\].*mean 'global_keyprefix'"):
        Options.read({"global_key_prefix": "x"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"priority_steps": []},
        {"priority_steps": [1, 2]},
        {"priority_steps": [0, 6, 3]},
        {"priority_steps": [0, 3, 3]},
        {"priority_steps": "0369"},
        {"priority_steps": [0, "3"]},
        {"sep": ""},
        {"sep": 3},
        {"global_keyprefix": 5},
        {"lease": 0},
        {"lease": -1},
        {"lease": 0.1},
        {"lease": "15"},
        {"socket_timeout": True},
        {"queue_order_strategy": "random"},
        {"allow_eviction": "yes"},
    ],
)
def test_a_wrong_value_is_an_error_that_names_the_setting(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ImproperlyConfigured, match=rf"SOME_OPTIONS\['{name}'\] must be"):
        Options.read(wrong, "SOME_OPTIONS")


@pytest.mark.parametrize(
    ("url", "kind", "expected"),
    [
        ("redis://", Connection, {"host": "localhost", "port": 6379, "db": 0}),
        ("redis://example.org", Connection, {"host": "example.org", "port": 6379, "db": 0}),
        ("redis://example.org:7000/3", Connection, {"host": "example.org", "port": 7000, "db": 3}),
        ("redis://example.org//3", Connection, {"db": 3}),
        ("redis://[::1]:7000/", Connection, {"host": "::1", "port": 7000, "db": 0}),
        ("redis://:s%40fe@h/1", Connection, {"password": "s@fe", "username": None, "db": 1}),
        ("redis://me:pw@h?db=4", Connection, {"password": "pw", "username": "me", "db": 4}),
        ("redis://h?virtual_host=5&client_name=web", Connection, {"db": 5, "client_name": "web"}),
        ("redis+socket:///run/my.sock", UnixDomainSocketConnection, {"path": "/run/my.sock", "db": 0}),
        (
            "redis+socket://:pw@/run/my.sock?virtual_host=2",
            UnixDomainSocketConnection,
            {"path": "/run/my.sock", "db": 2, "password": "pw"},
        ),
        ("rediss://h:1/2", SSLConnection, {"host": "h", "port": 1, "db": 2, "check_hostname": True}),
    ],
)
def test_urls_are_understood(url: str, kind: type, expected: dict[str, Any]) -> None:
    made = connection(url)
    assert type(made) is kind
    assert {name: getattr(made, name) for name in expected} == expected


def test_connections_retry_nothing_and_speak_resp2() -> None:
    made = connection("redis://h")
    assert made.retry._retries == 0
    assert made.protocol == 2
    assert (made.socket_timeout, made.socket_connect_timeout) == (5.0, 3.0)
    assert made.health_check_interval == 0


@pytest.mark.parametrize(
    ("query", "verified"),
    [
        ("", 2),
        ("?ssl_cert_reqs=CERT_NONE", 0),
        ("?ssl_cert_reqs=optional", 1),
        ("?ssl_cert_reqs=required", 2),
    ],
)
def test_certificates_are_verified_unless_told_otherwise(query: str, verified: int) -> None:
    assert connection(f"rediss://h/0{query}").cert_reqs == verified


def test_tls_can_be_an_option() -> None:
    made = connection("redis://h", ssl={"ssl_cert_reqs": "CERT_NONE"})
    assert type(made) is SSLConnection
    assert made.cert_reqs == 0


def test_sentinels_are_asked_for_the_master() -> None:
    url = "sentinel://:pw@one:26380/2;sentinel://two;three:26999"
    made = connection(url, master_name="mine", sentinel_kwargs={"password": "other"})
    assert isinstance(made, SentinelManagedConnection)
    pool = made.connection_pool
    assert pool.service_name == "mine"
    asked = [one.connection_pool.connection_kwargs for one in pool.sentinel_manager.sentinels]
    assert [(one["host"], one["port"]) for one in asked] == [("one", 26380), ("two", 26379), ("three", 26999)]
    assert {one["password"] for one in asked} == {"other"}
    assert (made.password, made.db) == ("pw", 2)


class Provider(UsernamePasswordCredentialProvider):
    """Knows a user and a password."""

    def __init__(self) -> None:
        super().__init__("from", "provider")


def test_a_credential_provider_takes_the_place_of_user_and_password() -> None:
    for made in (
        connection("redis://me:pw@h", credential_provider=Provider()),
        connection(f"redis://h?credential_provider={__name__}.Provider"),
    ):
        assert made.credential_provider.get_credentials() == ("from", "provider")
        assert made.password is None


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://:secret@h/zero", "number of a database"),
        ("redis://:secret@h?db=x", "number of a database"),
        ("redis://:secret@h?typo=1", "'typo'"),
        ("redis://:secret@h:port", "port is not a number"),
        ("redis://:secret/more@h", "percent-encoded"),
        ("redis://:1secret/more@h", "percent-encoded"),
        ("redis://:12/secret@h", "percent-encoded"),
        ("redis://:12?secret@h", "percent-encoded"),
        ("redis://:12#secret@h", "percent-encoded"),
        ("redis://:secret@h?ssl_cert_reqs=none", "rediss"),
        ("redis://:secret@one;redis://two", "only sentinel"),
        ("redis+socket://", "name the socket"),
        ("sentinel://:secret@h", "master_name"),
        ("http://:secret@h", "'http'"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url: str, why: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=why) as caught:
        connection(url)
    assert "secret" not in str(caught.value)


def test_what_is_shown_of_an_address_has_no_password() -> None:
    assert "secret" not in repr(Address("redis://me:secret@h/0", Options.read({})))


@pytest.mark.parametrize(("url", "options"), [("redis://h", {}), ("sentinel://h", {"master_name": "mine"})])
def test_there_is_no_end_of_connections(url: str, options: dict[str, Any]) -> None:
    address = Address(url, Options.read(options))
    for _ in range(500):
        address.connection()
