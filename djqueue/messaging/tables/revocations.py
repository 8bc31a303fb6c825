"""Tasks that nobody is to run, kept in a table so that they stay revoked whatever is restarted.

Clients and workers write here, in whatever transaction is open; workers read at their start and again every
few seconds. Rows go when REVOCATION_EXPIRES is over.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from django.db import connections, router, transaction

from djqueue.conf import settings
from djqueue.messaging.tables.failures import errors_of
from djqueue.models import Message, Revocation

#: ids in one statement
CHUNK = 500


def remember(alias: str, task_ids: Sequence[str]) -> set[str]:
    """Keep the revocations; return the queues in which delayed messages became due by it."""
    now = time.time()
    queues: set[str] = set()
    with transaction.atomic(using=alias, savepoint=False):
        Revocation.objects.using(alias).filter(revoked_at__lt=now - settings.REVOCATION_EXPIRES).delete()
        for first in range(0, len(task_ids), CHUNK):
            ids = task_ids[first : first + CHUNK]
            rows = [Revocation(task_id=task_id, revoked_at=now) for task_id in ids]
            Revocation.objects.using(alias).bulk_create(rows, ignore_conflicts=True)
            delayed = Message.objects.using(alias).filter(
                claimed_by="", due__isnull=False, task_id__in=list(ids)
            )
            queues.update(delayed.values_list("queue", flat=True))
            delayed.update(due=None)
    return queues


def since(alias: str, moment: float) -> list[tuple[str, float]]:
    """Return the tasks revoked after `moment` and not too long ago, each with when that was."""
    oldest = max(moment, time.time() - settings.REVOCATION_EXPIRES)
    newest = Revocation.objects.using(alias).filter(revoked_at__gt=oldest).order_by("-revoked_at")
    rows = list(newest.values_list("task_id", "revoked_at")[: settings.WORKER_REVOKES_MAX])
    return rows[::-1]


def keep(task_ids: Sequence[str]) -> None:
    """Keep the revocations of tasks whose broker cannot, in the project's own database.

    Raises:
        djqueue.exceptions.OperationalError: the database cannot be written.
    """
    alias = router.db_for_write(Revocation)
    with errors_of(alias):
        connections[alias].close_if_unusable_or_obsolete()
        remember(alias, task_ids)


def kept_since(moment: float) -> list[tuple[str, float]]:
    """Return the tasks that `keep` was told of after `moment`, each with when that was.

    Raises:
        djqueue.exceptions.OperationalError: the database cannot be read.
    """
    alias = router.db_for_read(Revocation)
    with errors_of(alias):
        connections[alias].close_if_unusable_or_obsolete()
        return since(alias, moment)
