"""Task results in the admin: to be looked at and searched, never written.

Staff come in with the permission to view task results; arguments and results need permissions of their own.
What is shown of a result is in `columns`. Lists read no large columns and count only as far as anybody would
turn pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from djqueue.log import escape
from djqueue_results import columns
from djqueue_results.models import TaskResult

#: Columns that may hold much text.
LARGE = ("result", "traceback", "task_args", "task_kwargs", "meta")

LIST = (
    columns.task_name,
    columns.state,
    columns.first_seen,
    columns.run_time,
    columns.queue,
    columns.worker,
    columns.task_id,
)
TASK = (columns.task_name, columns.state, columns.queue, columns.worker, columns.task_id)
TIMES = (columns.first_seen, columns.started, columns.ended, columns.run_time, "retries")
ARGUMENTS = (columns.arguments, columns.named_arguments)
RESULT = (columns.value, columns.traceback)
RELATED = (columns.schedule, columns.parent, columns.root, columns.group, columns.children)


class CappedPaginator(Paginator):
    """Counts at most 10,000 rows: counting a large table takes longer than showing a page of it."""

    object_list: QuerySet[Any]
    most = 10_000

    @cached_property
    def count(self) -> int:
        """Return the number of rows, or 10,000 if there are more."""
        return self.object_list[: self.most].count()


class LightChangeList(ChangeList):
    """The list of results, without the columns that can be large and what takes long over many rows."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        """Return the rows of the list."""
        return super().get_queryset(request, exclude_parameters).defer(*LARGE)

    def get_results(self, request: HttpRequest) -> None:
        """Collect one page of results; over many of them the days are not listed.

        Finding the days of 100,000 rows takes SQLite a second; of 10,000, a tenth.
        """
        super().get_results(request)
        if self.result_count >= CappedPaginator.most:
            self.date_hierarchy = None


class ValuesFilter(admin.AllValuesFieldListFilter):
    """A filter by the values there are, written so that they can be trusted to look like what they are."""

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Return the choices with their names escaped."""
        for choice in super().choices(changelist):
            yield {**choice, "display": escape(choice["display"], 60)}


@admin.register(TaskResult)
class TaskResultAdmin(admin.ModelAdmin):
    """The page of task results."""

    list_display = LIST
    list_display_links = (columns.task_name, columns.task_id)
    list_filter = (
        ("status", ValuesFilter),
        ("date_created", admin.DateFieldListFilter),
        ("queue", ValuesFilter),
        ("task_name", ValuesFilter),
    )
    search_fields = ("task_id", "task_name", "worker")
    search_help_text = _("Search in ids, task names and workers.")
    date_hierarchy = "date_created"
    ordering = ("-date_created",)
    list_per_page = 50
    paginator = CappedPaginator
    show_full_result_count = False

    class Media:
        css = {"all": ["djqueue_results/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: results come from workers."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: results are what they are."""
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the list that leaves large columns alone."""
        return LightChangeList

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return what this visitor may see of a result."""
        fieldsets = [(None, {"fields": TASK}), (_("Times"), {"fields": TIMES})]
        if request.user.has_perm("djqueue_results.view_arguments"):
            fieldsets.append((_("Arguments"), {"fields": ARGUMENTS}))
        if request.user.has_perm("djqueue_results.view_result"):
            fieldsets.append((_("Result"), {"fields": RESULT}))
        fieldsets.append((_("Related"), {"fields": RELATED}))
        return fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Return every field there is on the page."""
        return [name for _title, options in self.get_fieldsets(request, obj) for name in options["fields"]]
