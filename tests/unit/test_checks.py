"""`manage.py check` tells every mistake in the settings with what to do about it."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from djqueue import shared_task


def complaints(settings: Any, **changes: Any) -> str:
    settings.DJQUEUE = changes
    with pytest.raises(SystemCheckError) as caught:
        call_command("check", stdout=StringIO(), stderr=StringIO())
    return str(caught.value)


def test_the_defaults_are_fine(settings: Any) -> None:
    settings.DJQUEUE = {}
    call_command("check", fail_level="WARNING", stdout=StringIO())


def test_a_mistyped_setting_is_told_with_what_was_meant(settings: Any) -> None:
    told = complaints(settings, TASK_ACK_LATE=True)
    assert "djqueue.unknown_setting" in told
    assert "Did you mean 'TASK_ACKS_LATE'?" in told


def test_a_value_of_the_wrong_type_is_told(settings: Any) -> None:
    assert "djqueue.bad_value" in complaints(settings, TASK_TIME_LIMIT="soon")


def test_a_broker_that_does_not_exist_is_told(settings: Any) -> None:
    assert "djqueue.broker" in complaints(settings, BROKER_URL="carrier-pigeon://loft")
    assert "default" in complaints(settings, BROKER_URL="django://defualt")


def test_a_serializer_that_does_not_exist_is_told(settings: Any) -> None:
    told = complaints(settings, ACCEPT_CONTENT=["jason"])
    assert "djqueue.serializer" in told
    assert "ACCEPT_CONTENT" in told


def test_a_result_store_that_does_not_exist_is_told(settings: Any) -> None:
    assert "djqueue.result_backend" in complaints(settings, RESULT_BACKEND="django-bd")


def test_a_compression_that_does_not_exist_is_told(settings: Any) -> None:
    for name in ("TASK_COMPRESSION", "RESULT_COMPRESSION"):
        told = complaints(settings, **{name: "zlibb"})
        assert "djqueue.compression" in told
        assert f"Correct DJQUEUE['{name}']" in told


def warnings(settings: Any, **changes: Any) -> str:
    """Return what is said by checks that let everything pass."""
    settings.DJQUEUE = changes
    said = StringIO()
    call_command("check", stdout=StringIO(), stderr=said)
    return said.getvalue()


def test_a_task_that_commits_with_its_message_needs_the_database_as_broker(settings: Any) -> None:
    assert "djqueue.transactional" not in warnings(settings)
    shared_task(name="exactly.once", ack="transactional")(len)
    assert "djqueue.transactional" not in warnings(settings)
    assert "djqueue.transactional" not in warnings(settings, BROKER_URL="memory://")
    told = complaints(settings, BROKER_URL="redis://localhost")
    assert "djqueue.transactional_broker" in told
    assert "exactly.once" in told
    assert "djqueue.transactional_alias" in warnings(settings, BROKER_URL="django://other")


def test_a_result_that_is_no_part_of_the_transaction_is_told(settings: Any) -> None:
    shared_task(name="exactly.once", ack="transactional")(len)
    assert "djqueue.transactional_results" in warnings(settings, RESULT_BACKEND="redis://localhost")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"RESULT_COMPRESSION": "zlib"}, "djqueue.result_compression"),
        ({"RESULT_FAILURE_EXPIRES": 60}, "djqueue.result_failure_expires"),
    ],
)
def test_what_the_result_store_cannot_do_is_told(settings: Any, change: dict[str, Any], problem: str) -> None:
    for store in ("django-db", "rpc://", "cache+memory://"):
        assert problem in warnings(settings, RESULT_BACKEND=store, **change)
    for store in ("redis://localhost", "disabled"):
        assert problem not in warnings(settings, RESULT_BACKEND=store, **change)
