"""The entries of BEAT_SCHEDULE, read and checked: dictionaries become the columns of a row.

The setting comes in; what can be kept leaves as `Entry`, what cannot as a mistake with the name of its entry.
The daily clean-up of old results is added here when the result store needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any

from djqueue.core.calls import Plan, asked
from djqueue.core.serialization import dumps_json
from djqueue.exceptions import EncodeError
from djqueue.schedules import BaseSchedule, clocked, crontab, maybe_schedule, schedule
from djqueue_beat import arguments

#: kinds of schedule that have a table
KEPT = (schedule, crontab, clocked)
NEEDED = ("task", "schedule")
#: keys of an entry that are columns, with the type of their value
COLUMNS: Mapping[str, type] = {
    "one_off": bool,
    "enabled": bool,
    "description": str,
    "start_time": datetime,
}
KEYS = (*NEEDED, "args", "kwargs", "options", "relative", *COLUMNS)

CLEAN_UP = "celery.backend_cleanup"
CLEAN_UP_ENTRY: Mapping[str, Any] = {
    "task": CLEAN_UP,
    "schedule": crontab(minute=0, hour=4),
    "options": {"expires": timedelta(hours=12)},
    "description": "Deletes results older than RESULT_EXPIRES.",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: its schedule, and the columns of its row (`enabled` counts for a new row only)."""

    name: str
    schedule: BaseSchedule
    columns: dict[str, Any]
    enabled: bool = True


@dataclass(slots=True)
class Entries:
    """What the setting holds: entries that can be kept, and mistakes by the name of their entry."""

    good: list[Entry] = field(default_factory=list)
    mistakes: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The names of all, good or not."""
        return [*(entry.name for entry in self.good), *self.mistakes]


def read_entries(setting: Mapping[str, Any], with_clean_up: bool) -> Entries:
    """Return the entries of the setting; an entry of the same name replaces the built-in clean-up."""
    wanted = {CLEAN_UP: CLEAN_UP_ENTRY, **setting} if with_clean_up else setting
    entries = Entries()
    for name, given in wanted.items():
        try:
            entries.good.append(_read(name, given))
        except (TypeError, ValueError) as error:
            entries.mistakes[str(name)] = str(error)
    return entries


def _read(name: str, given: Any) -> Entry:
    _check_keys(name, given)
    relative = bool(given.get("relative", False))
    when = maybe_schedule(given["schedule"], relative)
    if not isinstance(when, KEPT):
        raise TypeError(
            f"'schedule' is {when!r}; beat's tables keep seconds, timedelta, schedule, crontab and clocked."
        )
    options = given.get("options") or {}
    if not isinstance(options, Mapping):
        raise TypeError(f"'options' must be a dictionary of options of apply_async, not {options!r}.")
    asked(Plan.for_name(given["task"]), given.get("args"), given.get("kwargs"), options)
    columns, rest = arguments.columns_of_options(options)
    columns |= {
        "task": given["task"],
        "args": _json(name, "args", list(given.get("args") or ())),
        "kwargs": _json(name, "kwargs", dict(given.get("kwargs") or {})),
        "headers": _json(name, "headers", dict(columns["headers"])),
        "options": _json(name, "options", rest),
        "relative": isinstance(when, schedule) and when.relative,
        "one_off": bool(given.get("one_off", isinstance(when, clocked))),
        "start_time": given.get("start_time"),
        "description": given.get("description", ""),
    }
    return Entry(name, when, columns, given.get("enabled", True))


def _check_keys(name: Any, given: Any) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= 200:
        raise TypeError(f"The name of an entry must be text of 1 to 200 characters, not {name!r}.")
    if not isinstance(given, Mapping):
        raise TypeError(f"An entry must be a dictionary with 'task' and 'schedule', not {given!r}.")
    for key in given:
        if key not in KEYS:
            near = get_close_matches(str(key), KEYS, n=1)
            meant = f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(KEYS)}."
            raise ValueError(f"{key!r} is not a key of an entry. {meant}")
    missing = [key for key in NEEDED if key not in given]
    if missing:
        raise ValueError(f"It has no {' and no '.join(map(repr, missing))}.")
    if not isinstance(given["task"], str) or not given["task"]:
        raise TypeError(f"'task' must be the name of a task, not {given['task']!r}.")
    for key, kind in COLUMNS.items():
        if given.get(key) is not None and not isinstance(given[key], kind):
            raise TypeError(f"{key!r} must be a {kind.__name__}, not {given[key]!r}.")


def _json(name: str, key: str, value: Any) -> str:
    try:
        return dumps_json(value).decode()
    except EncodeError as error:
        raise ValueError(f"{key!r} of {name!r} cannot be kept in a table: {error}") from error
