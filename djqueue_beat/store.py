"""Beat's transactions: take the slots that are due, plan what changed, keep the settings' entries.

A tick claims due rows, writes where they go next and sends their tasks, all in one transaction: with the
database broker on the same alias the messages are part of it. Whoever is killed at whatever point, and
however many beats there are, each slot is sent once, under an id that only depends on entry and slot.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import DatabaseError, InterfaceError, connections, router, transaction
from django.db import OperationalError as DatabaseTrouble

from djqueue.exceptions import OperationalError
from djqueue.schedules import BaseSchedule, clocked, crontab, schedule
from djqueue_beat import calls, planning
from djqueue_beat.entries import Entries, Entry
from djqueue_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
)
from djqueue_beat.models.tasks import BEATS_COLUMNS
from djqueue_beat.moments import from_column, to_column, utc_now

#: slots taken in one transaction
BATCH = 100
#: an entry that failed so many times in a row is switched off
MOST_ERRORS = 5
#: longest error text that is kept
ERROR_LENGTH = 500
#: columns that beat writes
WRITTEN = ("enabled", *BEATS_COLUMNS)
#: errors that are nobody's entry's fault: the whole tick is undone and tried again
NOT_THE_ENTRYS_FAULT = (DatabaseTrouble, InterfaceError, OperationalError)

Send = Callable[[PeriodicTask, str, datetime], str]


@dataclass(frozen=True, slots=True)
class Report:
    """What became of one due entry: sent (it has a `slot`), expired, or broken (`error`)."""

    entry: str
    task: str
    due: datetime
    slot: datetime | None = None
    task_id: str | None = None
    error: str = ""
    switched_off: bool = False


def slot_id(row: PeriodicTask, slot: datetime) -> str:
    """Return the task id of an entry's slot: the same for everybody who computes it."""
    return str(uuid.uuid5(row.uid, slot.isoformat()))


class Store:
    """The tables as one beat sees them. Clock and sender are passed in."""

    def __init__(
        self,
        alias: str | None = None,
        clock: Callable[[], datetime] = utc_now,
        send: Send = calls.send,
        batch: int = BATCH,
    ) -> None:
        self.alias = alias or router.db_for_write(PeriodicTask)
        self.batch = batch
        self._clock = clock
        self._send = send

    # Slots

    def take_due(self) -> list[Report]:
        """Send for up to a batch of entries whose slot has come, and return what became of each.

        Raises:
            djqueue.exceptions.OperationalError: database or broker could not be reached; nothing was taken.
        """
        with self._transaction():
            now = self._clock()
            rows = list(self._locked(self._rows.due(now))[: self.batch])
            reports = [self._take(row, now) for row in rows]
            self._write(rows)
        return reports

    def next_slot(self) -> datetime | None:
        """Return the earliest slot that any entry waits for."""
        with self._reaching():
            return self._rows.next_slot()

    def now(self) -> datetime:
        """Return the present moment by the store's clock, in UTC."""
        return self._clock()

    # Plans

    def last_change(self) -> datetime | None:
        """Return when somebody last changed an entry or a schedule."""
        with self._reaching():
            return PeriodicTasks.last_change()

    def plan_changed(self) -> tuple[int, list[Report]]:
        """Plan every enabled entry whose plan is not for the schedule it has now.

        Returns how many are enabled, and a report for each one that cannot be planned (it is switched off).
        """
        with self._reaching():
            enabled = list(self._rows.enabled())
        stale = [row.pk for row in enabled if _is_stale(row)]
        reports: list[Report] = []
        for start in range(0, len(stale), self.batch):
            with self._transaction():
                chosen = self._rows.enabled().filter(pk__in=stale[start : start + self.batch])
                rows = list(self._locked(chosen, skip=False))
                reports += [report for row in rows if (report := self._plan(row))]
                self._write(rows)
        return len(enabled), reports

    # Entries of the settings

    def keep_entries(self, entries: Entries) -> list[str]:
        """Write the settings' entries into rows, delete those that are gone, and return the latter's names.

        Whether a row is enabled is the operator's choice once it exists. An entry that its row refuses
        becomes one more of `entries.mistakes`.
        """
        with self._transaction():
            for entry in entries.good:
                try:
                    with transaction.atomic(using=self.alias):
                        self._keep(entry)
                except (ValidationError, TypeError, ValueError) as error:
                    entries.mistakes[entry.name] = " ".join(getattr(error, "messages", [str(error)]))
            gone = self._rows.filter(from_settings=True).exclude(name__in=entries.names)
            names = sorted(gone.values_list("name", flat=True))
            if names:
                gone.delete()
        return names

    # Below

    @property
    def _rows(self) -> Any:
        return PeriodicTask.objects.using(self.alias)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turn the database's errors into ours, and replace a connection that is no longer usable."""
        connection = connections[self.alias]
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
        try:
            yield
        except (DatabaseError, InterfaceError) as error:
            raise OperationalError(f"{type(error).__name__}: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Open a transaction in which rows that were read stay as they are until they are written."""
        with self._reaching(), transaction.atomic(using=self.alias):
            if not connections[self.alias].features.has_select_for_update:
                # Writing first, if to no row, takes SQLite's write lock before anything is read.
                PeriodicTasks.objects.using(self.alias).filter(ident=0).update(
                    last_update=to_column(utc_now())
                )
            yield

    def _locked(self, rows: Any, skip: bool = True) -> Any:
        """Return the query with its rows locked; those another beat holds are left out if `skip`."""
        features = connections[self.alias].features
        if not features.has_select_for_update:
            return rows
        return rows.select_for_update(skip_locked=skip and features.has_select_for_update_skip_locked)

    def _take(self, row: PeriodicTask, now: datetime) -> Report:
        """Send for the row's slot, and set its columns to what comes next."""
        due = from_column(row.next_run_at) or now  # the query only finds rows that have one
        expires = from_column(row.expires)
        if expires is not None and expires <= now:
            _switch_off(row)
            return Report(row.name, row.task, due, switched_off=True)
        try:
            turn = planning.turn(row.schedule, due, now)
        except (TypeError, ValueError, OverflowError) as error:
            return _broken(row, due, error, for_good=True)
        row.next_run_at, row.last_slot = to_column(turn.following), to_column(turn.slot)
        try:
            with transaction.atomic(using=self.alias):
                task_id = self._send(row, slot_id(row, turn.slot), turn.slot)
        except NOT_THE_ENTRYS_FAULT:
            raise
        except Exception as error:
            return _broken(row, due, error, for_good=row.one_off)
        _note_run(row, now)
        return Report(row.name, row.task, due, slot=turn.slot, task_id=task_id)

    def _plan(self, row: PeriodicTask) -> Report | None:
        now = self._clock()
        try:
            if _is_stale(row):
                row.plan(now)
        except (TypeError, ValueError, OverflowError) as error:
            return _broken(row, from_column(row.next_run_at) or now, error, for_good=True)
        return None

    def _write(self, rows: Sequence[PeriodicTask]) -> None:
        """Write what beat may change, all rows in one go: by far cheaper than the ORM's update of each."""
        connection = connections[self.alias]
        fields: list[Any] = [PeriodicTask._meta.get_field(name) for name in WRITTEN]
        quote = connection.ops.quote_name
        columns = ", ".join(f"{quote(field.column)} = %s" for field in fields)
        table, key = quote(PeriodicTask._meta.db_table), quote("id")
        values = [
            [*(field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields), row.pk]
            for row in rows
        ]
        if values:
            with connection.cursor() as cursor:
                cursor.executemany(f"UPDATE {table} SET {columns} WHERE {key} = %s", values)

    def _keep(self, entry: Entry) -> None:
        row = self._rows.with_schedules().filter(name=entry.name).first()
        if row is None:
            row = PeriodicTask(name=entry.name, enabled=entry.enabled)
        wanted = entry.columns | {"from_settings": True}
        wanted |= {name: to_column(wanted[name]) for name in ("start_time", "expires")}
        wanted |= self._schedule_rows(entry.schedule)
        if row.pk is None or any(getattr(row, name) != value for name, value in wanted.items()):
            for name, value in wanted.items():
                setattr(row, name, value)
            row.save(using=self.alias)

    def _schedule_rows(self, given: BaseSchedule) -> dict[str, Any]:
        """Return the three schedule columns, one of them a row of this schedule."""
        rows: dict[str, Any] = {"interval": None, "crontab": None, "clocked": None}
        if isinstance(given, crontab):
            rows["crontab"] = CrontabSchedule.from_schedule(given)
        elif isinstance(given, clocked):
            rows["clocked"] = ClockedSchedule.from_schedule(given)
        elif isinstance(given, schedule):
            rows["interval"] = IntervalSchedule.from_schedule(given)
        for row in rows.values():
            if row is not None and row.pk is None:
                row.save(using=self.alias)
        return rows


def _is_stale(row: PeriodicTask) -> bool:
    """Whether the row's plan is for another schedule, or its schedule cannot be read."""
    try:
        return row.planned_for != row.fingerprint()
    except (TypeError, ValueError):
        return True


def _note_run(row: PeriodicTask, now: datetime) -> None:
    row.last_run_at = to_column(now)
    row.total_run_count += 1
    row.errors, row.last_error = 0, ""
    if row.one_off:
        _switch_off(row)
        row.total_run_count = 0


def _broken(row: PeriodicTask, due: datetime, error: Exception, for_good: bool) -> Report:
    """Note an error that is the entry's own fault; `for_good` or once too often, it is switched off."""
    row.errors += 1
    row.last_error = str(error)[:ERROR_LENGTH] or type(error).__name__
    switched_off = for_good or row.errors >= MOST_ERRORS
    if switched_off:
        _switch_off(row)
    return Report(row.name, row.task, due, error=row.last_error, switched_off=switched_off)


def _switch_off(row: PeriodicTask) -> None:
    row.enabled, row.next_run_at, row.planned_for = False, None, ""
