"""Fixtures for every test: clean module state, real servers, real processes.

djqueue keeps module-level state in five places (settings, registry, current request, brokers, result
backends); one fixture puts all five back after each test. Settings overridden with `override_settings` or
pytest-django's `settings` come back by themselves. Server fixtures skip, or fail with CI=true.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from asgiref.sync import SyncToAsync
from django.db import connections
from hypothesis import settings as hypothesis_settings
from pytest_django import DjangoDbBlocker

from tests.project.settings import DIRECTORY
from tests.support import certificates as authorities
from tests.support import clouds, databases
from tests.support.other_brokers import amazon
from tests.support.processes import Processes
from tests.support.servers import Server, provide

# How long one example takes says more about the machine's load than about the code.
hypothesis_settings.register_profile("djqueue", deadline=None)
hypothesis_settings.load_profile("djqueue")


@pytest.fixture(autouse=True)
def clean_module_state() -> Iterator[None]:
    """Put the five places back after the test, as far as anybody has imported them."""
    requests = sys.modules.get("djqueue.core.requests")
    registry = sys.modules.get("djqueue.core.registry")
    known = dict(registry.tasks) if registry else {}
    commands = dict(registry.commands) if registry else {}
    yield
    if requests:
        requests._current.set(None)
    if registry:
        registry.tasks.clear()
        registry.tasks.update(known)
        if commands:  # else they were declared when the test imported them, once and for all
            registry.commands.clear()
            registry.commands.update(commands)
    for name in ("djqueue.messaging.brokers", "djqueue.result.backends"):
        module = sys.modules.get(name)
        if module:
            module.reset()
    conf = sys.modules.get("djqueue.conf")
    if conf:
        conf.settings.reset()


@pytest.fixture(autouse=True)
def no_connection_left_in_the_thread_for_async_code() -> Iterator[None]:
    """Close what asgiref's thread for synchronous code has opened: nobody else can, and it locks the file."""
    yield
    executor = SyncToAsync.single_thread_executor
    if executor._threads:
        executor.submit(connections.close_all).result()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    """Close what the test has opened: pytest-django does so after `transactional_db`, but not after `db`.

    A hook because it comes after every fixture of the test: `db` has rolled back and checked constraints.
    A `TestCase` keeps a transaction open between its tests, and closes its connections itself.
    """
    try:
        return (yield)
    finally:
        for one in connections.all(initialized_only=True):
            if not one.in_atomic_block:
                one.close()


@pytest.fixture
def database(request: pytest.FixtureRequest, transactional_db: None) -> Iterator[str]:
    """Return the kind of the default database; tests that are to run on others name them as parameters."""
    kind: str = getattr(request, "param", "sqlite")
    if kind == "sqlite":
        yield kind
        return
    with databases.standing_in(request.getfixturevalue(f"{kind}_database")):
        databases.empty()
        yield kind


@pytest.fixture
def processes(database: str, tmp_path: Path) -> Iterator[Processes]:
    """Start real commands on the test database; what is left of them is killed after the test."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.project.settings",
        "DJQUEUE_TEST_DIR": str(DIRECTORY),
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "error",
    }
    running = Processes(tmp_path, environment)
    yield running
    running.close()


def shared_server(kind: str) -> Iterator[Server]:
    """Provide one server for the whole run."""
    server = provide(kind)
    yield server
    server.close()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with certificates and keys, as `tests.support.certificates` makes them."""
    return authorities.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    """Return a Redis that every test of the run shares; tests that break it take `provide` themselves."""
    yield from shared_server("redis")


@pytest.fixture(scope="session")
def amqp_server() -> Iterator[Server]:
    """Return a RabbitMQ that every test of the run shares."""
    yield from shared_server("amqp")


@pytest.fixture(scope="session")
def memcached_server() -> Iterator[Server]:
    """Return a memcached that every test of the run shares."""
    yield from shared_server("memcached")


@pytest.fixture(scope="session")
def amazon_server() -> Iterator[Server]:
    """Return what looks like S3 and DynamoDB; every test of the run shares it."""
    server = amazon()
    yield server
    server.close()


@pytest.fixture(scope="session")
def azure_server() -> Iterator[Server]:
    """Return what looks like Azure's storage; every test of the run shares it."""
    server = clouds.azurite()
    yield server
    server.close()


@pytest.fixture(scope="session")
def google_server() -> Iterator[Server]:
    """Return what looks like Google's storage; every test and process of the run finds it."""
    server = clouds.google_storage()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(clouds.EMULATOR, server.url)
        yield server
    server.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """Return a PostgreSQL that every test of the run shares."""
    yield from shared_server("postgres")


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Server]:
    """Return a MariaDB that every test of the run shares."""
    yield from shared_server("mariadb")


@pytest.fixture(scope="session")
def postgresql_database(postgres_server: Server, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """Return the URL of a migrated database on the shared PostgreSQL."""
    with django_db_blocker.unblock(), databases.on(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def mariadb_database(mariadb_server: Server, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """Return the URL of a migrated database on the shared MariaDB."""
    with django_db_blocker.unblock(), databases.on(mariadb_server) as url:
        yield url


def pytest_unconfigure() -> None:
    """Remove the directory of the test databases, unless somebody named it and may want to look inside."""
    if "DJQUEUE_TEST_DIR" not in os.environ:
        shutil.rmtree(DIRECTORY, ignore_errors=True)
