"""The fixtures, in small pytest sessions of a project's own."""

from __future__ import annotations

import pytest

from tests.support.processes import ROOT

pytest_plugins = ["pytester"]

SETTINGS = """
SECRET_KEY = "of the inner project"
USE_TZ = True
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "djqueue", "djqueue_results", "shop"]
"""
TASKS = """
from django.contrib.auth.models import Group
from djqueue import shared_task

@shared_task
def found(name):
    return Group.objects.create(name=name).pk

@shared_task
def fail():
    raise LookupError("nothing there")
"""
TESTS = """
from functools import partial
from threading import get_ident

import pytest
from django.contrib.auth.models import Group
from django.db import transaction
from djqueue import shared_task
from djqueue.conf import settings
from shop.tasks import fail, found

def test_what_is_sent_is_known(djqueue_sent):
    found.delay("bakers")
    assert djqueue_sent.assert_sent(found, args=["bakers"], kwargs={}).queue == "default"
    assert djqueue_sent.calls(fail) == []

def test_nothing_is_left_of_the_test_before(djqueue_sent, djqueue_worker):
    assert djqueue_sent.calls() == []
    assert djqueue_worker.run_pending() == 0

def test_the_worker_runs_it_in_the_tests_transaction(db, djqueue_worker, djqueue_sent):
    result = found.delay("bakers")
    assert djqueue_worker.run_pending() == len(djqueue_sent.calls(found)) == 1
    assert result.get() == Group.objects.get().pk

def test_failures_reach_the_test(db, djqueue_worker):
    fail.delay()
    with pytest.raises(LookupError):
        djqueue_worker.run_pending()

def test_callbacks_of_the_commit(db, djqueue_worker, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        transaction.on_commit(partial(found.delay, "bakers"))
    assert djqueue_worker.run_pending() == 1

def test_queries_of_tasks_are_counted(db, djqueue_worker, django_assert_num_queries):
    with settings.override(RESULT_BACKEND="disabled"), django_assert_num_queries(2):
        found.delay("bakers")
        found.delay("brewers")
        djqueue_worker.run_pending()

def test_the_database_was_rolled_back(db):
    assert not Group.objects.exists()

def test_a_worker_beside_the_test(transactional_db, djqueue_worker):
    @shared_task(name="shop.where")
    def where():
        return get_ident()

    with djqueue_worker.running():
        assert where.delay().get(timeout=10) != get_ident()
        assert where.apply_async(queue="slow", countdown=0.2).get(timeout=10) != get_ident()
        last = found.delay("bakers")
    assert last.state == "SUCCESS"

def test_eager(db, djqueue_eager):
    assert found.delay("bakers").get() == Group.objects.get().pk
    with pytest.raises(LookupError):
        fail.delay()

def test_nothing_happens_unless_asked_for():
    assert settings.BROKER_URL == "django://default"
    assert not settings.TASK_ALWAYS_EAGER
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "settings")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    package = pytester.mkpydir("shop")
    (package / "tasks.py").write_text(TASKS)
    pytester.makepyfile(settings=SETTINGS)
    return pytester


def test_the_fixtures_do_what_they_say(project: pytest.Pytester) -> None:
    project.makepyfile(TESTS)
    result = project.runpytest_subprocess("-q", "-W", "error", timeout=60)
    result.assert_outcomes(passed=10)


def test_the_plugin_asks_nothing_of_those_who_do_not_use_it(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.makepyfile("def test_nothing(): pass")
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    result = project.runpytest_subprocess("-q", "-W", "error", "-p", "no:django", timeout=60)
    result.assert_outcomes(passed=1)


def test_the_helpers_of_django_tests_do_without_pytest(project: pytest.Pytester) -> None:
    code = "import sys, djqueue.testing; assert 'pytest' not in sys.modules"
    assert project.runpython_c(code).ret == 0
