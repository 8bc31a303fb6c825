"""A column for time zones: their names in the table, `ZoneInfo` objects in Python.

Names are checked when they are set by people; one that this machine does not know any more is handed out as
text, so that a single row never keeps the others from being read.
"""

from __future__ import annotations

from datetime import tzinfo
from difflib import get_close_matches
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from django import forms
from django.core.exceptions import ValidationError
from django.db import models

LONGEST_ZONE = 63


def as_zone(name: str) -> ZoneInfo:
    """Return the time zone of that name.

    Raises:
        ValueError: there is none; the message names the nearest one.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = get_close_matches(name, available_timezones(), n=1)
        meant = f" Did you mean {near[0]!r}?" if near else " Write one such as 'Europe/Oslo' or 'UTC'."
        raise ValueError(f"There is no time zone {name!r}.{meant}") from None


class TimeZoneField(models.CharField):
    """The name of a time zone."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("max_length", LONGEST_ZONE)
        super().__init__(*args, **options)

    def from_db_value(self, value: str | None, *_: Any) -> ZoneInfo | str | None:
        """Return the zone; its name if this machine does not know it."""
        try:
            return as_zone(value) if value else value
        except ValueError:
            return value

    def to_python(self, value: Any) -> Any:
        """Return the zone of what people or fixtures gave."""
        if not value or isinstance(value, tzinfo):
            return value
        try:
            return as_zone(str(value))
        except ValueError as error:
            raise ValidationError(str(error), code="unknown_time_zone") from error

    def run_validators(self, value: Any) -> None:
        """Check the name, which is what has a length."""
        super().run_validators(str(value))

    def get_prep_value(self, value: Any) -> str | None:
        """Return the name for the table."""
        return None if value is None else str(value)

    def value_to_string(self, obj: models.Model) -> str:
        """Return the name for fixtures."""
        return str(self.value_from_object(obj))

    def formfield(self, **options: Any) -> Any:
        """Return a select box of all zones."""
        names = sorted(available_timezones())
        return forms.TypedChoiceField(
            choices=[(name, name) for name in names],
            coerce=self.to_python,
            required=True,
            initial=str(self.get_default()),
            label=options.get("label", self.verbose_name),
            help_text=options.get("help_text", self.help_text),
        )
