"""Moments between beat and its tables: in here they are in UTC, in columns as the project keeps them.

With USE_TZ off, columns hold naive times in Django's TIME_ZONE; with it on, aware ones. Nothing else in beat
needs to know which.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import overload

from django.conf import settings
from django.utils import timezone


def utc_now() -> datetime:
    """Return the present moment in UTC."""
    return datetime.now(UTC)


@overload
def from_column(value: datetime) -> datetime: ...
@overload
def from_column(value: None) -> None: ...
def from_column(value: datetime | None) -> datetime | None:
    """Return the moment that a column holds, in UTC."""
    if value is None:
        return None
    return (timezone.make_aware(value) if timezone.is_naive(value) else value).astimezone(UTC)


@overload
def to_column(moment: datetime) -> datetime: ...
@overload
def to_column(moment: None) -> None: ...
def to_column(moment: datetime | None) -> datetime | None:
    """Return an aware moment as a column holds it."""
    if moment is None or settings.USE_TZ:
        return moment
    return timezone.make_naive(moment)
