"""What the admin shows of a task result, one function per column or line.

A `TaskResult` comes in, text or safe HTML leaves. Everything that came from outside is escaped, twice:
against HTML, and against characters that hide or reorder text.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import mark_safe
from django.utils.timezone import template_localtime
from django.utils.translation import gettext_lazy as _

from djqueue import states
from djqueue.log import escape
from djqueue_results import readable
from djqueue_results.models import TaskResult
from djqueue_results.rows import children_of, document_of, representation, stored_id

#: States with a colour of their own; the custom ones share one.
COLOURS = {
    states.SUCCESS: "good",
    states.FAILURE: "bad",
    states.REVOKED: "bad",
    states.RETRY: "waiting",
    states.PENDING: "waiting",
    states.RECEIVED: "waiting",
}


@admin.display(description=_("task id"), ordering="task_id")
def task_id(result: TaskResult) -> str:
    """Return the id."""
    return format_html('<span class="djqueue-id">{}</span>', escape(result.task_id))


@admin.display(description=_("state"), ordering="status")
def state(result: TaskResult) -> str:
    """Return the state, coloured."""
    colour = COLOURS.get(result.status, "running")
    return format_html('<span class="djqueue-state djqueue-{}">{}</span>', colour, escape(result.status))


@admin.display(description=_("task"), ordering="task_name", empty_value="-")
def task_name(result: TaskResult) -> str | None:
    """Return the name of the task."""
    if result.task_name is None:
        return None
    return format_html('<span class="djqueue-name">{}</span>', escape(result.task_name))


@admin.display(description=_("queue"), ordering="queue")
def queue(result: TaskResult) -> str | None:
    """Return the queue it came from."""
    return result.queue and escape(result.queue)


@admin.display(description=_("worker"), ordering="worker")
def worker(result: TaskResult) -> str | None:
    """Return the worker that ran it."""
    return result.worker and escape(result.worker)


@admin.display(description=_("first seen"), ordering="date_created")
def first_seen(result: TaskResult) -> str | None:
    """Return when a worker first wrote of the task."""
    return _moment(result.date_created)


@admin.display(description=_("started"), ordering="date_started")
def started(result: TaskResult) -> str | None:
    """Return when the last run began."""
    return _moment(result.date_started)


@admin.display(description=_("ended"), ordering="date_done")
def ended(result: TaskResult) -> str | None:
    """Return when the task ended."""
    return _moment(result.date_done)


@admin.display(description=_("run time"))
def run_time(result: TaskResult) -> str | None:
    """Return how long the last run took, to three digits."""
    if result.runtime is None:
        return None
    seconds = result.runtime.total_seconds()
    return f"{seconds * 1000:.3g} ms" if 0 <= seconds < 0.9995 else f"{seconds:,.2f} s"


@admin.display(description=_("arguments"))
def arguments(result: TaskResult) -> str | None:
    """Return the positional arguments."""
    return _pre(readable.pretty_arguments, representation(result.task_args))


@admin.display(description=_("named arguments"))
def named_arguments(result: TaskResult) -> str | None:
    """Return the named arguments."""
    return _pre(readable.pretty_arguments, representation(result.task_kwargs))


@admin.display(description=_("result"))
def value(result: TaskResult) -> str | None:
    """Return the value, the exception in one line, or what a running task said of itself."""
    document = document_of(result)
    error = readable.error_of(document)
    if error is None:
        plain = readable.value_of(document)
        says_nothing = plain is None and document.status != states.SUCCESS
        return None if says_nothing else _pre(readable.pretty_value, plain)
    name = ".".join(str(part) for part in (error["module"], error["type"]) if part)
    return _pre(readable.text_block, f"{name}: {error['message']}" if name else error["message"])


@admin.display(description=_("traceback"))
def traceback(result: TaskResult) -> str | None:
    """Return the traceback."""
    return _pre(readable.text_block, result.traceback or None)


@admin.display(description=_("sent by the schedule"))
def schedule(result: TaskResult) -> str | None:
    """Return the name of the schedule that sent it."""
    return result.periodic_task_name and escape(result.periodic_task_name)


@admin.display(description=_("sent by the task"))
def parent(result: TaskResult) -> str | None:
    """Return a link to the task that sent it."""
    return result.parent_id and _links("task_id", [result.parent_id])


@admin.display(description=_("first task of the tree"))
def root(result: TaskResult) -> str | None:
    """Return a link to all tasks that go back to the same one."""
    return result.root_id and _links("root_id", [result.root_id])


@admin.display(description=_("group"))
def group(result: TaskResult) -> str | None:
    """Return a link to the tasks of the same group."""
    return result.group_id and _links("group_id", [result.group_id])


@admin.display(description=_("tasks it sent"))
def children(result: TaskResult) -> str | None:
    """Return links to the tasks it sent."""
    return _links("task_id", readable.children_ids(children_of(result.meta))) or None


def _moment(moment: datetime | None) -> str | None:
    """Return local time to the second, which the usual format of the admin leaves out."""
    if moment is None:
        return None
    local = template_localtime(moment).strftime("%Y-%m-%d %H:%M:%S")
    return format_html('<span class="djqueue-moment">{}</span>', local)


def _pre(pretty: Callable[[Any], str], content: Any) -> str | None:
    if content is None:
        return None
    return format_html('<pre class="djqueue-block">{}</pre>', pretty(content))


def _links(column: str, ids: list[str]) -> str:
    """Return links to the list of results, narrowed down to each id in turn."""
    address = reverse("admin:djqueue_results_taskresult_changelist", current_app=admin.site.name)
    return format_html_join(
        mark_safe("<br>"),
        '<a href="{}" class="djqueue-id">{}</a>',
        ((f"{address}?{urlencode({column: stored_id(one)})}", escape(one)) for one in ids),
    )
