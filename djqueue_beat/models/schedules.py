"""The three kinds of schedule as rows, shared by any number of periodic tasks.

People write them in the admin, `from_schedule` makes them of Python schedules; the property `schedule` gives
the pure schedule back, which beat asks for slots.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar, Self
from zoneinfo import ZoneInfo

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from djqueue import schedules as pure
from djqueue.conf import settings
from djqueue_beat.models.columns import TimeZoneField, as_zone
from djqueue_beat.moments import from_column, to_column

DAYS, HOURS, MINUTES = "days", "hours", "minutes"
SECONDS, MICROSECONDS = "seconds", "microseconds"
PERIODS = ((DAYS, _("days")), (HOURS, _("hours")), (MINUTES, _("minutes")), (SECONDS, _("seconds")))
PERIOD_CHOICES = (*PERIODS, (MICROSECONDS, _("microseconds")))

#: the crontab columns, in the order of a crontab line, with their lengths
CRONTAB_FIELDS = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")


def project_zone() -> str:
    """Return the name of the project's time zone: what a new crontab row gets."""
    return str(settings.timezone())


class ScheduleRow(models.Model):
    """What the kinds have in common. `no_changes` keeps a save from telling beat."""

    no_changes = False

    class Meta:
        abstract = True

    @property
    def schedule(self) -> pure.BaseSchedule:
        """The pure schedule. Raises ValueError when the row does not describe one."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its schedule is.")

    @classmethod
    def _same(cls, **columns: Any) -> Self:
        """Return the first row like this, or a new one that is not saved yet."""
        known: Self | None = cls._default_manager.filter(**columns).order_by("pk").first()
        return known or cls(**columns)


class IntervalSchedule(ScheduleRow):
    """Every so many days, hours, minutes, seconds or microseconds."""

    DAYS, HOURS, MINUTES = DAYS, HOURS, MINUTES
    SECONDS, MICROSECONDS = SECONDS, MICROSECONDS
    PERIOD_CHOICES = PERIOD_CHOICES

    every = models.PositiveIntegerField(
        _("every"), validators=[MinValueValidator(1)], help_text=_("How many periods between two runs.")
    )
    period = models.CharField(_("period"), max_length=24, choices=PERIOD_CHOICES)

    class Meta:
        verbose_name = _("interval")
        verbose_name_plural = _("intervals")
        ordering: ClassVar[list[str]] = ["period", "every"]

    def __str__(self) -> str:
        return f"every {self.period_singular}" if self.every == 1 else f"every {self.every} {self.period}"

    @property
    def schedule(self) -> pure.schedule:
        """The interval as a pure schedule."""
        return self.every_so_often(relative=False)

    @property
    def period_singular(self) -> str:
        """The period's name without the s."""
        return str(self.period).removesuffix("s")

    def every_so_often(self, relative: bool) -> pure.schedule:
        """Return the pure schedule, rounded down to full units if `relative`.

        Raises:
            ValueError: the row does not describe an interval.
        """
        if self.period not in dict(PERIOD_CHOICES):
            raise ValueError(
                f"period is {self.period!r}; it must be one of {', '.join(dict(PERIOD_CHOICES))}."
            )
        return pure.schedule(timedelta(**{self.period: self.every}), relative)

    @classmethod
    def from_schedule(cls, given: pure.schedule, period: str | None = None) -> IntervalSchedule:
        """Return the row of an interval, in the largest unit that fits; it may not be saved yet."""
        units = [period] if period else [name for name, _label in PERIOD_CHOICES]
        for name in units:
            every, rest = divmod(given.run_every, timedelta(**{name: 1}))
            if not rest:
                return cls._same(every=every, period=name)
        raise ValueError(f"{given!r} is not a whole number of {period}.")


class CrontabSchedule(ScheduleRow):
    """Every minute whose wall-clock time matches five fields."""

    minute = models.CharField(
        _("minute"), max_length=60 * 4, default="*", help_text=_('0 to 59, "*/15", "5,35".')
    )
    hour = models.CharField(_("hour"), max_length=24 * 4, default="*", help_text=_('0 to 23, "8-17", "*/2".'))
    day_of_month = models.CharField(
        _("day of the month"), max_length=31 * 4, default="*", help_text=_('1 to 31, "1,15", "28-31".')
    )
    month_of_year = models.CharField(
        _("month"), max_length=64, default="*", help_text=_('1 to 12, "jan-mar", "*/3".')
    )
    day_of_week = models.CharField(
        _("day of the week"),
        max_length=64,
        default="*",
        help_text=_('0 (Sunday) to 6, "mon-fri", "sat,sun".'),
    )
    timezone: Any = TimeZoneField(
        _("time zone"), default=project_zone, help_text=_("Whose wall clock counts.")
    )

    class Meta:
        verbose_name = _("crontab")
        verbose_name_plural = _("crontabs")
        ordering: ClassVar[list[str]] = [
            "month_of_year",
            "day_of_month",
            "day_of_week",
            "hour",
            "minute",
            "timezone",
        ]

    def __str__(self) -> str:
        line = " ".join(str(getattr(self, name)) for name in CRONTAB_FIELDS)
        return f"{line} (m/h/dM/MY/d) {self.timezone}"

    @property
    def schedule(self) -> pure.crontab:
        """The crontab as a pure schedule."""
        zone = self.timezone if isinstance(self.timezone, ZoneInfo) else as_zone(str(self.timezone))
        return pure.crontab(**{name: getattr(self, name) for name in CRONTAB_FIELDS}, tz=zone)

    @property
    def human_readable(self) -> str:
        """The schedule in plain words; the mistake, if there is one."""
        try:
            return self.schedule.describe()
        except (TypeError, ValueError) as error:
            return str(error)

    def clean(self) -> None:
        """Refuse fields that cannot be read, each at its own place."""
        problems: dict[str, str] = {}
        for name in CRONTAB_FIELDS:
            try:
                pure.crontab(**{name: getattr(self, name)})
            except (TypeError, ValueError) as error:
                problems[name] = str(error)
        if problems:
            raise ValidationError(problems)
        try:
            pure.crontab(**{name: getattr(self, name) for name in CRONTAB_FIELDS})
        except ValueError as error:
            raise ValidationError({"day_of_month": str(error)}) from error

    @classmethod
    def from_schedule(cls, given: pure.crontab) -> CrontabSchedule:
        """Return the row of a crontab; it may not be saved yet."""
        return cls._same(**given.texts, timezone=as_zone(str(given.zone())))


class ClockedSchedule(ScheduleRow):
    """Once, at a moment."""

    clocked_time = models.DateTimeField(_("time"), help_text=_("When to run, once."))

    class Meta:
        verbose_name = _("single moment")
        verbose_name_plural = _("single moments")
        ordering: ClassVar[list[str]] = ["clocked_time"]

    def __str__(self) -> str:
        return str(self.clocked_time)

    @property
    def schedule(self) -> pure.clocked:
        """The moment as a pure schedule."""
        return pure.clocked(from_column(self.clocked_time))

    @classmethod
    def from_schedule(cls, given: pure.clocked) -> ClockedSchedule:
        """Return the row of a moment; it may not be saved yet."""
        when: datetime = given.utc(given.clocked_time)
        return cls._same(clocked_time=to_column(when))
