"""The settings of results in Redis that are not part of its address: where it is, who asks, how, how long.

Each is tried on a real server, or read off the connection it makes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import redis
from redis.connection import SSLConnection
from redis.credentials import UsernamePasswordCredentialProvider

from djqueue import AsyncResult
from djqueue.conf import settings
from djqueue.exceptions import BackendGetMetaError, BackendStoreError
from djqueue.result.backends import backend
from djqueue_results.backends.redis import RedisBackend
from tests.support.proxy import Proxy
from tests.support.results import document
from tests.support.servers import PrivateServer, Server, missing


class Provider(UsernamePasswordCredentialProvider):
    """Knows the user below."""

    def __init__(self) -> None:
        super().__init__("shop", "s/cret")


@pytest.fixture
def client(redis_server: Server) -> Iterator[Any]:
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        client.flushdb()
        yield client


@pytest.fixture
def user(redis_server: Server, client: Any) -> Iterator[None]:
    """Make a user."""
    if not isinstance(redis_server, PrivateServer):
        missing("This makes users on a Redis, and needs one of its own: redis-server on PATH.")
    client.acl_setuser(
        "shop", enabled=True, passwords=["+s/cret"], keys="*", channels="*", categories=["+@all"]
    )
    yield
    client.acl_deluser("shop")


def port_of(server: Server) -> int:
    return int(server.url.rpartition(":")[2].partition("/")[0])


def connection(store: RedisBackend) -> Any:
    """Return a connection of the store, not yet open."""
    return store._server.address.connection()


def works(store: RedisBackend) -> bool:
    """Store and read, and close the store."""
    with closing(store):
        store.store_many([document("a", value=1)])
        found = store.fetch("a")
        return found is not None and found.value() == 1


@pytest.mark.parametrize("address", ["redis://", "redis"])
def test_an_address_without_host_is_completed_by_settings(
    redis_server: Server, client: Any, address: str
) -> None:
    with settings.override(REDIS_HOST="127.0.0.1", REDIS_PORT=port_of(redis_server), REDIS_DB=7):
        store = backend(address)
        assert isinstance(store, RedisBackend)
        assert works(store)
    with redis.Redis.from_url(f"redis://127.0.0.1:{port_of(redis_server)}/7") as seventh:
        assert seventh.delete("celery-task-meta-a") == 1
    assert not client.exists("celery-task-meta-a")


def test_what_the_address_says_counts_more() -> None:
    with settings.override(REDIS_HOST="elsewhere", REDIS_PORT=1, REDIS_DB=2, REDIS_USERNAME="me"):
        made = connection(RedisBackend("redis://you:secret@here/3"))
        assert (made.host, made.port, made.db, made.username) == ("here", 6379, 3, "you")
        assert connection(RedisBackend("redis:///3")).db == 3
        assert connection(RedisBackend("redis://here")).db == 0


def test_user_and_password_may_stand_beside_the_address(redis_server: Server, user: None) -> None:
    with settings.override(REDIS_USERNAME="shop", REDIS_PASSWORD="s/cret"):
        store = RedisBackend(redis_server.url)
        assert "cret" not in store.as_uri()
        assert works(store)
    with settings.override(REDIS_USERNAME="shop", REDIS_PASSWORD="wrong"):
        store = RedisBackend(redis_server.url)
    with closing(store), pytest.raises(BackendStoreError) as caught:
        store.store_many([document("a")])
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize("given", [Provider(), f"{__name__}.Provider"], ids=["object", "path"])
def test_a_credential_provider_is_asked(redis_server: Server, client: Any, user: None, given: Any) -> None:
    with settings.override(REDIS_BACKEND_CREDENTIAL_PROVIDER=given, REDIS_CLIENT_NAME="results-of-shop"):
        store = RedisBackend(redis_server.url)
    store.store_many([document("a", value=1)])
    assert {one["user"] for one in client.client_list() if one["name"] == "results-of-shop"} == {"shop"}
    store.close()


def test_tls_is_asked_for(redis_server: Server) -> None:
    with settings.override(REDIS_BACKEND_USE_SSL={"ssl_cert_reqs": "CERT_NONE", "ca_certs": "/ca.pem"}):
        made = connection(RedisBackend("redis://here"))
    assert isinstance(made, SSLConnection)
    assert (made.cert_reqs.name, made.ca_certs) == ("CERT_NONE", "/ca.pem")


def test_timeouts_and_keepalive_are_those_of_the_settings() -> None:
    changes = {"SOCKET_TIMEOUT": 120.0, "SOCKET_CONNECT_TIMEOUT": 1.5, "SOCKET_KEEPALIVE": False}
    with settings.override(**{f"REDIS_{name}": value for name, value in changes.items()}):
        made = connection(RedisBackend("redis://here"))
        assert (made.socket_timeout, made.socket_connect_timeout, made.socket_keepalive) == (
            120.0,
            1.5,
            False,
        )
        with settings.override(RESULT_BACKEND_TRANSPORT_OPTIONS={"socket_timeout": 7.0}):
            assert connection(RedisBackend("redis://here")).socket_timeout == 7.0


def test_a_server_that_says_nothing_is_waited_for_so_long(redis_server: Server) -> None:
    proxy = Proxy(redis_server.url)
    with settings.override(REDIS_SOCKET_TIMEOUT=0.2):
        store = RedisBackend(proxy.url)
    store.fetch("a")
    proxy.hole()
    with pytest.raises(BackendGetMetaError):
        store.fetch("a")
    store.close()
    proxy.close()


def test_who_reads_outlives_a_server_that_is_away(redis_server: Server, client: Any) -> None:
    proxy = Proxy(redis_server.url)
    store = RedisBackend(proxy.url)
    store.store_many([document("a", value=1)])
    proxy.cut(refuse=True)
    with pytest.raises(BackendGetMetaError):
        AsyncResult("a", store).ready()
    healing = threading.Timer(0.3, proxy.heal)
    healing.start()
    with settings.override(RESULT_BACKEND_ALWAYS_RETRY=True):
        assert AsyncResult("a", store).result == 1
    healing.join()
    store.close()
    proxy.close()


def test_no_more_connections_are_used_than_allowed(redis_server: Server, client: Any) -> None:
    with settings.override(REDIS_MAX_CONNECTIONS=2, REDIS_CLIENT_NAME="few"):
        store = RedisBackend(redis_server.url)
    most: list[int] = []

    def read() -> None:
        for _ in range(30):
            store.fetch("a")
            most.append(sum(one["name"] == "few" for one in client.client_list()))

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= max(most) <= 2
    assert len(most) == 6 * 30
    store.close()
