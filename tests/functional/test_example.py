"""The example site, run: its demo works and its exit status tells so, and its shop sends its tasks.

`manage.py` of the repository comes in, with a database of its own for each test.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT
from tests.support.servers import Server

PLACE_ORDER = """
from django.test import Client
from example_project.shop.models import Order
form = {"customer": "ada@example.org", "amount": "12.50"}
answer = Client().post("/orders/", form, headers={"host": "localhost"})
order = Order.objects.get()
print(answer.status_code, order.state, order.receipt)
"""


def manage(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run manage.py on a database in the directory."""
    surroundings = {**os.environ, "DATABASE_URL": f"sqlite:///{directory / 'db.sqlite3'}", **environment}
    surroundings["DJANGO_SETTINGS_MODULE"] = "example_project.settings"
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, timeout=100)


@pytest.mark.timeout(120)
def test_the_demo_indexes_files_sees_a_schedule_fire_and_stops_cleanly(tmp_path: Path) -> None:
    done = manage(tmp_path, "demo", "--files", "40", "--logs", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[########################################] 40/40" in done.stdout
    assert "Beat sent, and the worker ran, example_project.indexer.tasks.note_time" in done.stdout
    assert "Everything worked" in done.stdout


@pytest.mark.timeout(120)
def test_the_demo_runs_over_redis(tmp_path: Path, redis_server: Server) -> None:
    url = redis_server.url
    settings = {"DJQUEUE_BROKER_URL": url, "DJQUEUE_RESULT_BACKEND": url}
    done = manage(tmp_path, "demo", "--files", "40", "--logs", str(tmp_path), **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything worked" in done.stdout
    assert url in (tmp_path / "runworker.log").read_text()


@pytest.mark.timeout(120)
def test_the_demo_runs_over_rabbitmq(tmp_path: Path, amqp_server: Server) -> None:
    url = amqp_server.vhost("demo")
    done = manage(tmp_path, "demo", "--files", "40", "--logs", str(tmp_path), DJQUEUE_BROKER_URL=url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything worked" in done.stdout
    assert "amqp://guest:**@" in (tmp_path / "runworker.log").read_text()


@pytest.mark.timeout(120)
def test_the_demo_fails_when_its_worker_does_and_shows_why(tmp_path: Path) -> None:
    done = manage(tmp_path, "demo", "--files", "1", "--logs", str(tmp_path), DJQUEUE_WORKER_POOL="bathtub")
    assert done.returncode == 1
    assert "runworker ended with exit status" in done.stderr
    assert "bathtub" in done.stderr


def test_an_order_is_charged_and_receipted_by_its_tasks(tmp_path: Path) -> None:
    assert manage(tmp_path, "migrate", "--verbosity", "0").returncode == 0
    done = manage(tmp_path, "shell", "-c", PLACE_ORDER, DJQUEUE_TASK_ALWAYS_EAGER="true")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "202 charged Received 12.50 for order 1. Thank you." in done.stdout
