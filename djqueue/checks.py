"""System checks: what `manage.py check` says about the settings and the broker.

Everything wrong is told at once, each with an id and a hint. The rules live beside what they speak of
(`conf`, the transports); this file only turns them into Django's messages.
"""

from __future__ import annotations

from typing import Any

from django.core import checks

from djqueue.conf import settings
from djqueue.core.serialization import content_types
from djqueue.exceptions import DjqueueError, ImproperlyConfigured
from djqueue.messaging import brokers
from djqueue.result import backends


@checks.register("djqueue")
def check_settings(**_: Any) -> list[checks.CheckMessage]:
    """Unknown settings and values that do not fit (djqueue.E001…)."""
    return [
        checks.Error(problem.message, hint=problem.hint, id=f"djqueue.{problem.id}")
        for problem in settings.problems()
    ]


@checks.register("djqueue")
def check_serializers(**_: Any) -> list[checks.CheckMessage]:
    """Serializers and content types that nobody knows."""
    if settings.problems():
        return []
    names = {"TASK_SERIALIZER": [settings.TASK_SERIALIZER], "RESULT_SERIALIZER": [settings.RESULT_SERIALIZER]}
    names["ACCEPT_CONTENT"] = settings.ACCEPT_CONTENT
    names["RESULT_ACCEPT_CONTENT"] = settings.RESULT_ACCEPT_CONTENT
    found: list[checks.CheckMessage] = []
    for setting, given in names.items():
        try:
            content_types(tuple(given or ()))
        except DjqueueError as error:
            hint = f"Correct DJQUEUE[{setting!r}]."
            found.append(checks.Error(str(error), hint=hint, id="djqueue.serializer"))
    return found


@checks.register("djqueue")
def check_broker(**_: Any) -> list[checks.CheckMessage]:
    """A broker that cannot be used, or that loses something the settings ask for."""
    if settings.problems():
        return []
    try:
        broker = brokers.broker()
    except ImproperlyConfigured as error:
        return [checks.Error(str(error), hint="Set DJQUEUE['BROKER_URL'].", id="djqueue.broker")]
    return [
        checks.CheckMessage(problem.level, problem.message, hint=problem.hint, id=f"djqueue.{problem.id}")
        for problem in broker.problems()
    ]


@checks.register("djqueue")
def check_result_backend(**_: Any) -> list[checks.CheckMessage]:
    """A result store that cannot be used."""
    if settings.problems():
        return []
    try:
        backends.backend()
    except ImproperlyConfigured as error:
        return [checks.Error(str(error), hint="Set DJQUEUE['RESULT_BACKEND'].", id="djqueue.result_backend")]
    return []
