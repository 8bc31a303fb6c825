"""Who may see what of a task over HTTP.

A request comes in; a `Sight` leaves, or None. Closed by default: staff with the permission to view task
results, or the bearer of a signed link. An id that is not theirs to see looks like one that does not exist.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from django.http import Http404
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from djqueue_results.api.links import PARAMETER, read_link


class Sight(NamedTuple):
    """How much of a task is shown, besides state, progress and times."""

    details: bool = False
    result: bool = False
    arguments: bool = False


def sight_of(user: Any) -> Sight | None:
    """Return what the user may see of every task, or None if nothing."""
    if not (user and user.is_staff and user.has_perm("djqueue_results.view_taskresult")):
        return None
    return Sight(
        details=True,
        result=user.has_perm("djqueue_results.view_result"),
        arguments=user.has_perm("djqueue_results.view_arguments"),
    )


def sight_by_link(request: Request, task_id: str) -> Sight | None:
    """Return what the link in the request allows to see of this task, or None."""
    link = read_link(request.query_params.get(PARAMETER), task_id)
    return link and Sight(result=link.show_result)


def sight(request: Request, task_id: str) -> Sight | None:
    """Return what the visitor may see of this task, by account and link together, or None if nothing."""
    by_account, by_link = sight_of(request.user), sight_by_link(request, task_id)
    if by_account and by_link:
        return by_account._replace(result=by_account.result or by_link.result)
    return by_account or by_link


class MaySeeTask(BasePermission):
    """Lets in who sees the task of the URL, by account or by link; tells the others nothing about it."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Return False for strangers, whatever the id; to users without permission no task exists."""
        if sight(request, view.kwargs["task_id"]):
            return True
        if request.user and request.user.is_authenticated:
            raise Http404
        return False
