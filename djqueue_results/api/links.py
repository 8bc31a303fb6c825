"""Signed links to the status of one task, for visitors without an account.

A view that started a task comes in with the id and hands the link to whoever asked for it. `read_link`
turns what comes back with a request into what its bearer may see.
"""

from __future__ import annotations

import time
from typing import NamedTuple
from urllib.parse import urlencode

from django.core import signing
from django.http import HttpRequest
from django.urls import reverse

SALT = "djqueue_results.api.status"
PARAMETER = "link"


class Link(NamedTuple):
    """What a valid link allows."""

    task_id: str
    show_result: bool


def status_url(request: HttpRequest, task_id: str, *, show_result: bool = False, lasts: float = 86400) -> str:
    """Return the address at which anybody who has it may follow this task, for `lasts` seconds.

    It shows state, progress and times; the result or error, too, with `show_result`. Arguments never.
    """
    token = signing.dumps([task_id, int(time.time() + lasts), show_result], salt=SALT)
    path = reverse("djqueue_results_api:task", args=[task_id])
    return request.build_absolute_uri(f"{path}?{urlencode({PARAMETER: token})}")


def read_link(token: str | None, task_id: str) -> Link | None:
    """Return what the link allows for this task, or None: no link, a false one, or one that has expired."""
    if not token:
        return None
    try:
        signed_id, expires, show_result = signing.loads(token, salt=SALT)
    except signing.BadSignature:
        return None
    if signed_id != task_id or time.time() > expires:
        return None
    return Link(task_id, show_result)
