"""Questions that are asked about task results in more than one place.

Callers come with `TaskResult.objects`; querysets leave.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import Q

#: Rows deleted in one statement: few enough that nobody waits long for the lock.
PRUNED_AT_ONCE = 500


class TaskResultQuerySet(models.QuerySet[Any]):
    """Task results, with the questions of this app."""

    def older_than(self, moment: datetime) -> TaskResultQuerySet:
        """Return what ended before `moment`, or was begun before it and never ended."""
        # Both have an early `date_created`, which is what the index is on.
        return self.filter(Q(date_done=None) | Q(date_done__lt=moment), date_created__lt=moment)

    def prune(self) -> int:
        """Delete the rows in small batches, each on its own, and return how many that were."""
        pruned = 0
        while keys := list(self.order_by().values_list("pk", flat=True)[:PRUNED_AT_ONCE]):
            pruned += self.model._default_manager.using(self.db).filter(pk__in=keys).delete()[0]
        return pruned
