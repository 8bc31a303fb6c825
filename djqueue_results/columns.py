"""What the admin shows of a task result, one function per column or line.

A `TaskResult` comes in, text or safe HTML leaves. Everything that came from outside is escaped, twice:
against HTML, and against characters that hide or reorder text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import mark_safe
from django.utils.timezone import is_aware, localtime
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

#: What stands for nothing: the admin knows it in lists, and in its forms it would say None.
EMPTY = "-"


@admin.display(description=_("task id"), ordering="task_id")
def task_id(result: TaskResult) -> str:
    """Return the id."""
    return format_html('<span class="djqueue-id">{}</span>', escape(result.task_id))


@admin.display(description=_("state"), ordering="status")
def state(result: TaskResult) -> str:
    """Return the state, coloured."""
    colour = COLOURS.get(result.status, "running")
    return format_html('<span class="djqueue-state djqueue-{}">{}</span>', colour, escape(result.status))


@admin.display(description=_("task"), ordering="task_name")
def task_name(result: TaskResult) -> str:
    """Return the name of the task."""
    if result.task_name is None:
        return EMPTY
    return format_html('<span class="djqueue-name">{}</span>', escape(result.task_name))


@admin.display(description=_("queue"), ordering="queue")
def queue(result: TaskResult) -> str:
    """Return the queue it came from."""
    return escape(result.queue or EMPTY)


@admin.display(description=_("worker"), ordering="worker")
def worker(result: TaskResult) -> str:
    """Return the worker that ran it."""
    return escape(result.worker or EMPTY)


@admin.display(description=_("first seen"), ordering="date_created")
def first_seen(result: TaskResult) -> str:
    """Return when a worker first wrote of the task."""
    return _moment(result.date_created)


@admin.display(description=_("started"), ordering="date_started")
def started(result: TaskResult) -> str:
    """Return when the last run began."""
    return _moment(result.date_started)


@admin.display(description=_("ended"), ordering="date_done")
def ended(result: TaskResult) -> str:
    """Return when the task ended."""
    return _moment(result.date_done)


@admin.display(description=_("run time"))
def run_time(result: TaskResult) -> str:
    """Return how long the last run took, to three digits."""
    if result.runtime is None:
        return EMPTY
    seconds = result.runtime.total_seconds()
    return f"{seconds * 1000:.3g} ms" if 0 <= seconds < 0.9995 else f"{seconds:,.2f} s"


@admin.display(description=_("arguments"))
def arguments(result: TaskResult) -> str:
    """Return the positional arguments."""
    return _pre(readable.pretty_arguments, representation(result.task_args))


@admin.display(description=_("named arguments"))
def named_arguments(result: TaskResult) -> str:
    """Return the named arguments."""
    return _pre(readable.pretty_arguments, representation(result.task_kwargs))


@admin.display(description=_("result"))
def value(result: TaskResult) -> str:
    """Return the value, the exception in one line, or what a running task said of itself."""
    document = document_of(result)
    error = readable.error_of(document)
    if error is None:
        plain = readable.value_of(document)
        says_nothing = plain is None and document.status != states.SUCCESS
        return EMPTY if says_nothing else _pre(readable.pretty_value, plain)
    name = ".".join(str(part) for part in (error["module"], error["type"]) if part)
    return _pre(readable.text_block, f"{name}: {error['message']}" if name else error["message"])


@admin.display(description=_("traceback"))
def traceback(result: TaskResult) -> str:
    """Return the traceback."""
    return _pre(readable.text_block, result.traceback or None)


@admin.display(description=_("sent by the schedule"))
def schedule(result: TaskResult) -> str:
    """Return the name of the schedule that sent it."""
    return escape(result.periodic_task_name or EMPTY)


@admin.display(description=_("sent by the task"))
def parent(result: TaskResult) -> str:
    """Return a link to the task that sent it."""
    return _links("task_id", [result.parent_id])


@admin.display(description=_("first task of the tree"))
def root(result: TaskResult) -> str:
    """Return a link to all tasks that go back to the same one."""
    return _links("root_id", [result.root_id])


@admin.display(description=_("group"))
def group(result: TaskResult) -> str:
    """Return a link to the tasks of the same group."""
    return _links("group_id", [result.group_id])


@admin.display(description=_("tasks it sent"))
def children(result: TaskResult) -> str:
    """Return links to the tasks it sent."""
    return _links("task_id", readable.children_ids(children_of(result.meta)))


def _moment(moment: datetime | None) -> str:
    """Return local time to the second, which the usual format of the admin leaves out."""
    if moment is None:
        return EMPTY
    local = localtime(moment) if is_aware(moment) else moment
    return format_html('<span class="djqueue-moment">{}</span>', local.strftime("%Y-%m-%d %H:%M:%S"))


def _pre(pretty: Callable[[Any], str], content: Any) -> str:
    if content is None:
        return EMPTY
    return format_html('<pre class="djqueue-block">{}</pre>', pretty(content))


def _links(column: str, ids: Iterable[str | None]) -> str:
    """Return links to the list of results, narrowed down to each id in turn."""
    address = reverse("admin:djqueue_results_taskresult_changelist", current_app=admin.site.name)
    links = [(f"{address}?{urlencode({column: stored_id(one)})}", escape(one)) for one in ids if one]
    return format_html_join(mark_safe("<br>"), '<a href="{}" class="djqueue-id">{}</a>', links) or EMPTY
