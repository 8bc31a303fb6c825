"""Moments as messages carry them: ISO 8601 text, read tolerantly and written as Celery does.

Calls come in with datetimes, numbers of seconds or text; the wire takes text, schedulers take seconds since
the epoch. Text without an offset is UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from djqueue.conf import settings


def now() -> datetime:
    """Return the current moment in the zone that messages are written in."""
    return datetime.now(UTC if settings.ENABLE_UTC else settings.timezone())


def parse(text: str, zone: tzinfo = UTC) -> datetime:
    """Return the moment that ISO 8601 text means; text without an offset is in `zone`.

    Raises:
        ValueError: it is not such text.
    """
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)


def epoch(moment: str | datetime) -> float:
    """Return the moment in seconds since the epoch.

    Raises:
        ValueError: it cannot be read.
    """
    if isinstance(moment, str):
        return parse(moment).timestamp()
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def after(seconds: float | timedelta, what: str) -> datetime:
    """Return the moment that is `seconds` from now; `what` names the option in errors.

    Raises:
        TypeError: not a number of seconds.
        ValueError: no calendar reaches that far.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float | timedelta):
        raise TypeError(f"{what} must be a number of seconds or a timedelta; it is {seconds!r}.")
    try:
        return now() + (seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds))
    except (OverflowError, ValueError):
        raise ValueError(f"{what}={seconds!r} is beyond any calendar; give less.") from None


def written(moment: Any, what: str) -> str | None:
    """Return the moment as the wire has it: text stays as given, a datetime keeps its offset or lack of one.

    Raises:
        TypeError: neither a datetime nor text.
        ValueError: the text is no moment.
    """
    if moment is None:
        return None
    if isinstance(moment, datetime):
        return moment.isoformat()
    if not isinstance(moment, str):
        raise TypeError(f"{what} must be a datetime or ISO 8601 text; it is {moment!r}.")
    try:
        parse(moment)
    except ValueError:
        raise ValueError(f"{what}={moment!r} is not ISO 8601, such as '2030-01-31T12:00:00+00:00'.") from None
    return moment
