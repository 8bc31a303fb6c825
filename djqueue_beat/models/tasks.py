"""Periodic tasks: what is sent, when, and where beat stands with it.

People and programs write the upper columns; `save` plans the next slot whenever something that matters to it
has changed. The lower columns are beat's: a save of a row that was read earlier never puts old values back
into them. `PeriodicTasks` is one row whose date tells beats that something changed.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, ClassVar, Self

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from djqueue.core.writing import put
from djqueue.schedules import BaseSchedule
from djqueue_beat import arguments, planning
from djqueue_beat.models.schedules import ClockedSchedule, CrontabSchedule, IntervalSchedule
from djqueue_beat.moments import from_column, to_column, utc_now
from djqueue_beat.querysets import SCHEDULE_COLUMNS, PeriodicTaskQuerySet

#: written by beat; a save elsewhere leaves them alone unless they were set on that very object
BEATS_COLUMNS = (
    "last_run_at",
    "total_run_count",
    "next_run_at",
    "last_slot",
    "planned_for",
    "errors",
    "last_error",
)
#: a change of these may need a new plan
PLANNED_BY = ("interval", "crontab", "clocked", "relative", "start_time", "enabled")


class PeriodicTask(models.Model):
    """A task that is sent again and again, or once at a given moment."""

    name = models.CharField(_("name"), max_length=200, unique=True)
    task = models.CharField(_("task"), max_length=200, help_text=_("The name the task is registered by."))
    interval = models.ForeignKey(
        IntervalSchedule, models.CASCADE, verbose_name=_("interval"), null=True, blank=True
    )
    crontab = models.ForeignKey(
        CrontabSchedule, models.CASCADE, verbose_name=_("crontab"), null=True, blank=True
    )
    clocked = models.ForeignKey(
        ClockedSchedule, models.CASCADE, verbose_name=_("single moment"), null=True, blank=True
    )
    args = models.TextField(
        _("positional arguments"), blank=True, default="[]", help_text=_('A JSON list: ["a", 1].')
    )
    kwargs = models.TextField(
        _("named arguments"), blank=True, default="{}", help_text=_('A JSON object: {"key": "value"}.')
    )
    queue = models.CharField(
        _("queue"), max_length=200, null=True, blank=True, help_text=_("Empty: as the task is routed.")
    )
    exchange = models.CharField(_("exchange"), max_length=200, null=True, blank=True)
    routing_key = models.CharField(_("routing key"), max_length=200, null=True, blank=True)
    headers = models.TextField(_("headers"), blank=True, default="{}", help_text=_("A JSON object."))
    priority = models.PositiveIntegerField(
        _("priority"), null=True, blank=True, validators=[MaxValueValidator(255)]
    )
    options = models.TextField(
        _("other options"),
        blank=True,
        default="{}",
        help_text=_('Further options of apply_async, a JSON object: {"time_limit": 60}.'),
    )
    expires = models.DateTimeField(
        _("expires at"), null=True, blank=True, help_text=_("From then on nothing is sent or started.")
    )
    expire_seconds = models.PositiveIntegerField(
        _("expires after seconds"),
        null=True,
        blank=True,
        help_text=_("A run that no worker has started by then is dropped."),
    )
    one_off = models.BooleanField(_("once only"), default=False, help_text=_("Switched off after one run."))
    start_time = models.DateTimeField(
        _("start"), null=True, blank=True, help_text=_("No run before; intervals are counted from here.")
    )
    relative = models.BooleanField(
        _("full units"), default=False, help_text=_("Intervals fall on full hours, midnights and so on.")
    )
    enabled = models.BooleanField(_("enabled"), default=True)
    description = models.TextField(_("description"), blank=True)
    from_settings = models.BooleanField(_("from the settings"), default=False, editable=False)
    uid = models.UUIDField(_("uid"), default=uuid.uuid4, editable=False, unique=True)
    date_changed = models.DateTimeField(_("changed"), auto_now=True)

    last_run_at = models.DateTimeField(_("last run"), null=True, blank=True, editable=False)
    total_run_count = models.PositiveIntegerField(_("runs"), default=0, editable=False)
    next_run_at = models.DateTimeField(_("next run"), null=True, blank=True, editable=False)
    last_slot = models.DateTimeField(_("last slot"), null=True, blank=True, editable=False)
    planned_for = models.TextField(_("planned for"), blank=True, default="", editable=False)
    errors = models.PositiveIntegerField(_("errors in a row"), default=0, editable=False)
    last_error = models.TextField(_("last error"), blank=True, default="", editable=False)

    no_changes = False
    objects: ClassVar[models.Manager[Any]] = models.Manager.from_queryset(PeriodicTaskQuerySet)()

    class Meta:
        verbose_name = _("periodic task")
        verbose_name_plural = _("periodic tasks")
        ordering: ClassVar[list[str]] = ["name"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["enabled", "next_run_at"], name="djq_beat_due")
        ]
        permissions = [("run_periodictask", "Can run periodic tasks now")]

    def __str__(self) -> str:
        return f"{self.name}: {self.in_words}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Check, plan anew if that is needed, and write what was changed on this object."""
        self._tidy()
        if not self.enabled:
            self.last_run_at = None
        self.validate_unique()
        given = None if kwargs.get("update_fields") is None else set(kwargs["update_fields"])
        if given is None or given.intersection(PLANNED_BY):
            self._plan_if_needed()
        if not self._state.adding and not kwargs.get("force_insert"):
            kwargs["update_fields"] = self._columns_to_write(given)
        super().save(*args, **kwargs)
        self._remember()

    # When

    @property
    def scheduler(self) -> IntervalSchedule | CrontabSchedule | ClockedSchedule | None:
        """The row of the schedule."""
        return self.interval or self.crontab or self.clocked

    @property
    def schedule(self) -> BaseSchedule:
        """The pure schedule. Raises ValueError or TypeError when there is none or it cannot be read."""
        row = self.scheduler
        if row is None:
            raise ValueError(f"{self.name!r} has no schedule: choose an interval, a crontab or a moment.")
        return row.every_so_often(self.relative) if isinstance(row, IntervalSchedule) else row.schedule

    @property
    def in_words(self) -> str:
        """The schedule in plain words; the mistake, if there is one."""
        try:
            return self.schedule.describe()
        except (TypeError, ValueError) as error:
            return str(error)

    def fingerprint(self) -> str:
        """Return what the plan depends on, as text; empty when nothing is planned.

        Raises:
            ValueError, TypeError: the schedule cannot be read.
        """
        return planning.fingerprint(self.schedule, from_column(self.start_time)) if self.enabled else ""

    def plan(self, now: datetime) -> None:
        """Set the next slot anew, as seen from `now`. Raises ValueError or TypeError as `schedule` does."""
        self.planned_for = self.fingerprint()
        self.next_run_at = None
        if self.enabled:
            slot = planning.first_slot(
                self.schedule, now, from_column(self.start_time), from_column(self.last_slot)
            )
            self.next_run_at = to_column(slot)
        self.errors, self.last_error = 0, ""

    # Checking

    def clean(self) -> None:
        """Refuse what could not be sent, at the column it is in."""
        super().clean()
        self._tidy()
        try:
            arguments.check(self)
        except arguments.BrokenEntry as error:
            raise ValidationError({error.column: str(error)}) from error

    def validate_unique(self, *args: Any, **kwargs: Any) -> None:
        """Refuse a name that is taken, and anything but exactly one schedule."""
        super().validate_unique(*args, **kwargs)
        chosen = [name for name in SCHEDULE_COLUMNS if getattr(self, name) is not None]
        if len(chosen) != 1:
            given = _("none was chosen") if not chosen else ", ".join(chosen)
            raise ValidationError(
                _("Choose exactly one of interval, crontab and single moment (%(given)s).") % {"given": given}
            )
        if chosen == ["clocked"] and not self.one_off:
            raise ValidationError({"one_off": _('A single moment comes once: tick "once only".')})

    def _tidy(self) -> None:
        for name in ("queue", "exchange", "routing_key"):
            setattr(self, name, getattr(self, name) or None)
        if self.expires is not None and self.expire_seconds is not None:
            raise ValidationError(_("Set the date it expires at or the seconds it expires after, not both."))

    def _plan_if_needed(self) -> None:
        """Plan unless the plan in hand is for this very schedule; one given to a new row is kept."""
        if self.planned_for == self.fingerprint():
            return
        if self._state.adding and self.enabled and self.next_run_at is not None:
            self.planned_for = self.fingerprint()
        else:
            self.plan(utc_now())

    def _columns_to_write(self, given: set[str] | None) -> list[str]:
        unread = self.get_deferred_fields()
        columns = given
        if columns is None:
            columns = {
                field.name
                for field in self._meta.concrete_fields
                if not field.primary_key and field.attname not in unread and field.name not in BEATS_COLUMNS
            }
        changed = {name for name in BEATS_COLUMNS if name not in unread and self._changed(name)}
        return sorted(columns | changed | {"date_changed"})

    # What beat's columns were when they were read

    @classmethod
    def from_db(cls, db: str | None, field_names: Any, values: Any, **how: Any) -> Self:
        """Read a row, and remember what beat's columns held."""
        row = super().from_db(db, field_names, values, **how)
        row._remember()
        return row

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        """Read the row again."""
        super().refresh_from_db(*args, **kwargs)
        self._remember()

    def _remember(self) -> None:
        self._as_read = {name: self.__dict__[name] for name in BEATS_COLUMNS if name in self.__dict__}

    def _changed(self, name: str) -> bool:
        as_read: dict[str, Any] = getattr(self, "_as_read", {})
        return name not in as_read or as_read[name] != getattr(self, name)


class PeriodicTasks(models.Model):
    """One row: when a schedule or a periodic task was last changed by somebody other than beat."""

    ident = models.SmallIntegerField(default=1, primary_key=True)
    last_update = models.DateTimeField(_("last change"))

    class Meta:
        verbose_name = _("change of periodic tasks")
        verbose_name_plural = _("changes of periodic tasks")

    def __str__(self) -> str:
        return str(self.last_update)

    @classmethod
    def changed(cls, instance: Any, **_signal: Any) -> None:
        """Note a change of `instance`, unless its `no_changes` says not to."""
        if not instance.no_changes:
            cls.update_changed()

    @classmethod
    def update_changed(cls, **_signal: Any) -> None:
        """Make beats look at every entry again; call it after `QuerySet.update` and `bulk_create`."""
        put(cls._default_manager.all(), {"ident": 1}, {"last_update": timezone.now()})

    @classmethod
    def last_change(cls) -> datetime | None:
        """Return when the last change was noted, or None."""
        row = cls._default_manager.filter(ident=1).first()
        return row.last_update if row else None
