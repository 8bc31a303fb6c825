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

from tests.project.settings import DIRECTORY
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


@pytest.fixture
def processes(transactional_db: None, tmp_path: Path) -> Iterator[Processes]:
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
def redis_server() -> Iterator[Server]:
    """Return a Redis that every test of the run shares; tests that break it take `provide` themselves."""
    yield from shared_server("redis")


@pytest.fixture(scope="session")
def amqp_server() -> Iterator[Server]:
    """Return a RabbitMQ that every test of the run shares."""
    yield from shared_server("amqp")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """Return a PostgreSQL that every test of the run shares."""
    yield from shared_server("postgres")


def pytest_unconfigure() -> None:
    """Remove the directory of the test databases, unless somebody named it and may want to look inside."""
    if "DJQUEUE_TEST_DIR" not in os.environ:
        shutil.rmtree(DIRECTORY, ignore_errors=True)
