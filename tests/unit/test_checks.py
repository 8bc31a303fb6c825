"""`manage.py check` tells every mistake in the settings with what to do about it."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError


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
