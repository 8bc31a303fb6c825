"""The table of results as code that was written for django-celery-results uses it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import call_command

from djqueue_results.models import TaskResult
from tests.support.results import TaskResultFactory


def test_a_row_shows_its_task_and_state() -> None:
    assert str(TaskResult(task_id="a", status="SUCCESS")) == "<Task: a (SUCCESS)>"


def test_a_row_as_a_dictionary_holds_what_is_stored() -> None:
    shown = TaskResultFactory.build(task_id="a").as_dict()
    assert list(shown) == [
        *("task_id", "task_name", "task_args", "task_kwargs", "status", "result", "date_done"),
        *("traceback", "meta", "worker"),
    ]
    assert (shown["task_id"], shown["result"]) == ("a", "4")


def test_the_run_time_is_known_when_the_task_has_ended() -> None:
    assert TaskResultFactory.build().runtime == timedelta(seconds=1.5)
    assert TaskResultFactory.build(date_done=None).runtime is None
    assert TaskResultFactory.build(date_started=None).runtime is None


@pytest.mark.django_db
def test_the_migrations_are_complete() -> None:
    call_command("makemigrations", "djqueue_results", check=True, dry_run=True, verbosity=0)
