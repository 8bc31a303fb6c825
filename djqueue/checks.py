"""System checks: what `manage.py check` says about the settings and the broker.

Everything wrong is told at once, each with an id and a hint. The rules live beside what they speak of
(`conf`, the transports); this file only turns them into Django's messages.
"""

from __future__ import annotations

from typing import Any

from django.core import checks

from djqueue.conf import settings
from djqueue.core.registry import tasks
from djqueue.core.serialization import compress, content_types
from djqueue.exceptions import DjqueueError, ImproperlyConfigured
from djqueue.messaging import brokers
from djqueue.result import backends
from djqueue.tasks.options import TRANSACTIONAL


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
def check_compression(**_: Any) -> list[checks.CheckMessage]:
    """Compressions that nobody knows."""
    found: list[checks.CheckMessage] = []
    if settings.problems():
        return found
    names = {"TASK_COMPRESSION": settings.TASK_COMPRESSION, "RESULT_COMPRESSION": settings.RESULT_COMPRESSION}
    for setting, name in names.items():
        try:
            compress(b"", name or "zlib")
        except DjqueueError as error:
            hint = f"Correct DJQUEUE[{setting!r}]."
            found.append(checks.Error(str(error), hint=hint, id="djqueue.compression"))
    return found


@checks.register("djqueue")
def check_broker(**_: Any) -> list[checks.CheckMessage]:
    """A broker that cannot be used, or that loses something the settings ask for."""
    if settings.problems():
        return []
    try:
        used = dict.fromkeys([brokers.broker(), brokers.broker_to_read()])
    except ImproperlyConfigured as error:
        return [checks.Error(str(error), hint="Set DJQUEUE['BROKER_URL'].", id="djqueue.broker")]
    return [
        checks.CheckMessage(problem.level, problem.message, hint=problem.hint, id=f"djqueue.{problem.id}")
        for broker in used
        for problem in broker.problems()
    ]


@checks.register("djqueue")
def check_transactional_tasks(**_: Any) -> list[checks.CheckMessage]:
    """Tasks that are to commit together with their messages, where that cannot be, or not with everything."""
    if settings.problems():
        return []
    names = sorted(name for name, task in tasks.items() if task.option("ack") == TRANSACTIONAL)
    try:
        broker, store = brokers.broker(), backends.backend()
    except ImproperlyConfigured:
        return []  # told above
    if not names or broker.capabilities.in_process:
        return []
    which = ", ".join(names[:5]) + (" and others" if len(names) > 5 else "")
    alias = broker.capabilities.transactional_alias
    if alias is None:
        return [
            checks.Error(
                f'ack="transactional" needs the database as broker, and BROKER_URL is {broker!r}: {which}.',
                hint="Set BROKER_URL to django://default, or leave the option out of these tasks.",
                id="djqueue.transactional_broker",
            )
        ]
    found: list[checks.CheckMessage] = []
    if alias != "default":
        found.append(
            checks.Warning(
                f"The broker is {broker!r}: what {which} write to other databases than {alias!r} is not part"
                " of the transaction that ends with their messages.",
                hint="Set BROKER_URL to the database that these tasks write to.",
                id="djqueue.transactional_alias",
            )
        )
    if store.keeps and store.transactional_alias != alias:
        found.append(
            checks.Info(
                f"Results are kept in {store.as_uri()}: those of {which} are stored just before their"
                " transaction is committed, not as part of it.",
                hint='Set RESULT_BACKEND to "django-db", on the alias of the broker.',
                id="djqueue.transactional_results",
            )
        )
    return found


@checks.register("djqueue")
def check_result_backend(**_: Any) -> list[checks.CheckMessage]:
    """A result store that cannot be used, or that does not do all the settings ask for."""
    if settings.problems():
        return []
    try:
        store = backends.backend()
    except ImproperlyConfigured as error:
        return [checks.Error(str(error), hint="Set DJQUEUE['RESULT_BACKEND'].", id="djqueue.result_backend")]
    found: list[checks.CheckMessage] = []
    if settings.RESULT_COMPRESSION and store.keeps and not store.compresses:
        found.append(
            _without("RESULT_COMPRESSION", f"{store.as_uri()} keeps results as they are", "compression")
        )
    if settings.RESULT_FAILURE_EXPIRES is not None and store.keeps and not store.parts_failures:
        told = f"{store.as_uri()} keeps failures as long as other results"
        found.append(_without("RESULT_FAILURE_EXPIRES", told, "failure_expires"))
    return found


def _without(setting: str, why: str, name: str) -> checks.CheckMessage:
    return checks.Warning(
        f"DJQUEUE[{setting!r}] has no effect: {why}.",
        hint="Leave it out, or keep results in a Redis.",
        id=f"djqueue.result_{name}",
    )
