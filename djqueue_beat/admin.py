"""The admin of schedules: make, check and preview them, switch them on and off, run one now.

Staff come in; rows change through the models, so that beat sees it within seconds. Entries of the settings
can only be switched on and off here. Every action is written to Django's log of changes.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import formats, timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy as _

from djqueue.core.registry import load_tasks, tasks
from djqueue.exceptions import DjqueueError
from djqueue.schedules import BaseSchedule
from djqueue_beat import calls
from djqueue_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask
from djqueue_beat.moments import from_column, utc_now

#: slots that a preview shows
PREVIEWED = 5
#: tasks of the queue itself, not offered for schedules
INTERNAL = "celery."


class TaskNameInput(forms.TextInput):
    """A text field that offers the registered names; others may be typed, workers may know more."""

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        """Return the field and its list of offers."""
        list_id = f"{name}-offers"
        field = super().render(name, value, {**(attrs or {}), "list": list_id}, renderer)
        offers = format_html_join("", '<option value="{}">', ((known,) for known in offered_tasks()))
        return format_html('{}<datalist id="{}">{}</datalist>', field, list_id, offers)


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(admin.ModelAdmin):
    """Entries: what is sent, and when."""

    formfield_overrides: ClassVar[dict[Any, Any]] = {
        models.TextField: {"widget": forms.Textarea(attrs={"rows": 2, "cols": 80})}
    }
    list_display = (
        "name",
        "enabled",
        "when",
        "task",
        "next_run",
        "last_run_at",
        "total_run_count",
        "trouble",
    )
    list_filter = ("enabled", "one_off", "from_settings", "task", "last_run_at")
    search_fields = ("name", "task", "description")
    actions = ("enable_tasks", "disable_tasks", "toggle_tasks", "run_tasks")
    #: what beat knows: shown, never edited
    shown = ("when", "preview", "last_run_at", "total_run_count", "last_error", "from_settings")
    fieldsets = (
        (None, {"fields": ("name", "task", "enabled", "description")}),
        (
            _("Schedule"),
            {
                "fields": (
                    "interval",
                    "crontab",
                    "clocked",
                    "start_time",
                    "one_off",
                    "relative",
                    "when",
                    "preview",
                )
            },
        ),
        (_("Arguments"), {"fields": ("args", "kwargs")}),
        (
            _("Sending"),
            {
                "fields": (
                    ("queue", "exchange", "routing_key"),
                    "priority",
                    ("expires", "expire_seconds"),
                    "headers",
                    "options",
                ),
                "classes": ("collapse",),
            },
        ),
        (_("So far"), {"fields": ("last_run_at", "total_run_count", "last_error", "from_settings")}),
    )

    def formfield_for_dbfield(self, db_field: models.Field, request: HttpRequest, **kwargs: Any) -> Any:
        """Offer the registered tasks."""
        if db_field.name == "task":
            kwargs["widget"] = TaskNameInput(attrs={"class": "vTextField"})
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """Fetch the schedules along with the entries."""
        return super().get_queryset(request).prefetch_related("interval", "crontab", "clocked")

    def get_readonly_fields(self, request: HttpRequest, obj: PeriodicTask | None = None) -> tuple[str, ...]:
        """Leave only the switch to people where the settings say the rest."""
        if obj is None or not obj.from_settings:
            return self.shown
        fields = {field.name for field in obj._meta.fields if field.editable and not field.primary_key}
        return (*self.shown, *sorted(fields - {"enabled"}))

    def has_run_permission(self, request: HttpRequest) -> bool:
        """Whether this user may send entries now."""
        return request.user.has_perm("djqueue_beat.run_periodictask")

    def save_model(self, request: HttpRequest, obj: PeriodicTask, form: Any, change: bool) -> None:
        """Save, and say when it runs next and whether anybody here knows the task."""
        super().save_model(request, obj, form, change)
        if obj.enabled and obj.next_run_at:
            what = {"words": obj.in_words, "next": local(obj.next_run_at)}
            self.message_user(request, _("It runs %(words)s; next: %(next)s.") % what)
        elif obj.enabled:
            self.message_user(request, _("Its schedule never comes again."), messages.WARNING)
        load_tasks()
        if obj.task not in tasks:
            near = ", ".join(tasks.near(obj.task))
            hint = _(" Did you mean %(near)s?") % {"near": near} if near else ""
            text = _("No task %(task)s is registered here; it is sent all the same.") % {"task": obj.task}
            self.message_user(request, f"{text}{hint}", messages.WARNING)

    # Columns

    @admin.display(description=_("when"))
    def when(self, obj: PeriodicTask) -> str:
        """The schedule in plain words."""
        return obj.in_words if obj.pk else "-"

    @admin.display(description=_("next run"), ordering="next_run_at")
    def next_run(self, obj: PeriodicTask) -> str:
        """The slot it waits for."""
        return local(obj.next_run_at) if obj.enabled and obj.next_run_at else "-"

    @admin.display(description=_("trouble"))
    def trouble(self, obj: PeriodicTask) -> str:
        """The last error, if the last run failed."""
        return obj.last_error or "-"

    @admin.display(description=_("next times"))
    def preview(self, obj: PeriodicTask) -> str:
        """The next slots."""
        if not obj.pk:
            return str(_("Shown once it is saved."))
        waits_for = from_column(obj.next_run_at)
        return preview_of(lambda: obj.schedule, waits_for)

    # Actions

    @admin.action(description=_("Enable selected periodic tasks"), permissions=["change"])
    def enable_tasks(self, request: HttpRequest, queryset: QuerySet) -> None:
        """Switch on."""
        self._switch(request, queryset, lambda row: True)

    @admin.action(description=_("Disable selected periodic tasks"), permissions=["change"])
    def disable_tasks(self, request: HttpRequest, queryset: QuerySet) -> None:
        """Switch off."""
        self._switch(request, queryset, lambda row: False)

    @admin.action(description=_("Toggle selected periodic tasks"), permissions=["change"])
    def toggle_tasks(self, request: HttpRequest, queryset: QuerySet) -> None:
        """Switch on what is off, and the other way round."""
        self._switch(request, queryset, lambda row: not row.enabled)

    @admin.action(description=_("Run selected periodic tasks now"), permissions=["run"])
    def run_tasks(self, request: HttpRequest, queryset: QuerySet) -> None:
        """Send each once, now, beside its schedule."""
        load_tasks()
        for row in queryset:
            try:
                task_id = calls.send(row)
            except (DjqueueError, TypeError, ValueError) as error:
                text = _("Not sent: %(name)s, because %(error)s") % {"name": row.name, "error": error}
                self.message_user(request, text, messages.ERROR)
                continue
            self.log_change(request, row, f"Sent now as {task_id}.")
            self.message_user(request, _("Sent %(name)s as %(id)s.") % {"name": row.name, "id": task_id})

    def _switch(
        self, request: HttpRequest, queryset: QuerySet, wanted: Callable[[PeriodicTask], bool]
    ) -> None:
        changed = 0
        for row in queryset:
            if row.enabled == wanted(row):
                continue
            row.enabled = not row.enabled
            try:
                row.save()
            except (TypeError, ValueError, forms.ValidationError) as error:
                text = " ".join(getattr(error, "messages", [str(error)]))
                self.message_user(request, f"Not switched: {row.name}: {text}", messages.ERROR)
                continue
            self.log_change(request, row, "Enabled." if row.enabled else "Disabled.")
            changed += 1
        self.message_user(request, _("%(count)d periodic tasks were switched.") % {"count": changed})


class UsedBy(admin.TabularInline):
    """The entries that use a schedule, to look at."""

    model = PeriodicTask
    fields = ("name", "task", "enabled", "next_run_at")
    readonly_fields = fields
    extra = 0
    can_delete = False
    show_change_link = True
    verbose_name_plural = _("used by")

    def has_add_permission(self, *_: Any) -> bool:
        """Entries are made on their own page."""
        return False


class ScheduleAdmin(admin.ModelAdmin):
    """What the three kinds of schedule have in common."""

    inlines: ClassVar[list[Any]] = [UsedBy]
    readonly_fields: ClassVar[tuple[str, ...]] = ("in_words", "preview")

    @admin.display(description=_("in plain words"))
    def in_words(self, obj: Any) -> str:
        """The schedule in plain words; the mistake, if there is one."""
        try:
            return obj.schedule.describe() if obj.pk else "-"
        except (TypeError, ValueError) as error:
            return str(error)

    @admin.display(description=_("next times"))
    def preview(self, obj: Any) -> str:
        """The next slots."""
        return preview_of(lambda: obj.schedule) if obj.pk else str(_("Shown once it is saved."))


@admin.register(IntervalSchedule)
class IntervalScheduleAdmin(ScheduleAdmin):
    """Intervals."""

    list_display = ("__str__", "every", "period")
    list_filter = ("period",)
    search_fields = ("every", "period")
    readonly_fields: ClassVar[tuple[str, ...]] = ("in_words",)


@admin.register(CrontabSchedule)
class CrontabScheduleAdmin(ScheduleAdmin):
    """Crontabs."""

    list_display = ("__str__", "in_words", "timezone")
    list_filter = ("timezone",)
    search_fields = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week", "timezone")


@admin.register(ClockedSchedule)
class ClockedScheduleAdmin(ScheduleAdmin):
    """Single moments."""

    list_display = ("clocked_time",)
    search_fields = ("clocked_time",)
    readonly_fields: ClassVar[tuple[str, ...]] = ("in_words",)


def offered_tasks() -> list[str]:
    """Return the names of the tasks that make sense in a schedule."""
    load_tasks()
    return sorted(name for name in tasks if not name.startswith(INTERNAL))


def local(moment: datetime) -> str:
    """Return a moment as the project's users read it."""
    here = timezone.localtime(moment) if timezone.is_aware(moment) else moment
    return formats.date_format(here, "D j M Y, H:i:s")


def preview_of(
    schedule_of: Callable[[], BaseSchedule], waits_for: datetime | None = None
) -> SafeString | str:
    """Return the next slots as lines; `waits_for` is the first one if the entry has been planned."""
    try:
        schedule = schedule_of()
        start = waits_for or utc_now()
        slots = [waits_for] if waits_for else []
        slots += schedule.upcoming(start, PREVIEWED - len(slots))
    except (TypeError, ValueError, OverflowError) as error:
        return str(error)
    zone = schedule.zone()
    lines = [(f"{formats.date_format(slot.astimezone(zone), 'D j M Y, H:i:s')} {zone}",) for slot in slots]
    return format_html_join(mark_safe("<br>"), "{}", lines) or str(_("none any more"))
