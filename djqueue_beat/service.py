"""The beat: looks for slots that are due, round after round, for a command or a worker's loop.

`start` once, `tick` as often as its answer says, `stop` once. Nothing in here ends a beat: when the database
or the broker is away it says so once, tries again with growing pauses, and says when they are back.
"""

from __future__ import annotations

from datetime import datetime

import djqueue
from djqueue import signals
from djqueue.conf import settings
from djqueue.exceptions import OperationalError
from djqueue_beat import log_lines
from djqueue_beat.entries import read_entries
from djqueue_beat.store import Report, Store

#: seconds between two rounds if the setting leaves it to us: how late a change may take effect
LONGEST_PAUSE = 5.0
#: plans are compared with schedules so often also without a change noted, in seconds: for bulk updates
LOOK_AGAIN = 300.0
#: pauses between tries while the database is away, in seconds
FIRST_RETRY, LONGEST_RETRY = 0.25, 5.0
#: a slot is late from this many seconds on: then the log says that it was caught up
LATE = 60.0


class Beat:
    """One beat. Any number of them may run at once. Used by one thread only.

    `max_interval` is the longest pause in seconds. A `store` can be passed in for another clock or sender.
    """

    def __init__(self, store: Store | None = None, max_interval: float | None = None) -> None:
        self._store = store or Store()
        self._pause = float(max_interval or settings.BEAT_MAX_LOOP_INTERVAL or LONGEST_PAUSE)
        self._has_entries = False
        self._seen_change: datetime | None = None
        self._look_again = 0.0
        self._away_since: float | None = None
        self._retry = FIRST_RETRY
        #: tasks sent so far
        self.sent = 0

    def start(self) -> None:
        """Tell listeners; the tables are first touched by `tick`, so that a late database does no harm."""
        signals.beat_init.send_robust(sender=self)

    def tick(self, now: float) -> float:
        """Do what is due at `now` (monotonic seconds), and return in how many seconds to come again."""
        try:
            pause = self._round(now)
        except OperationalError as error:
            return self._note_away(error, now)
        self._note_back(now)
        return pause

    def stop(self) -> None:
        """Say goodbye. Nothing is held that would have to be given back."""
        log_lines.stopped(self.sent)

    # One round

    def _round(self, now: float) -> float:
        if not self._has_entries:
            self._keep_entries()
        self._plan_changed(now)
        following = self._store.next_slot()
        if following is not None and following <= self._store.now():
            reports = self._store.take_due()
            for report in reports:
                self._tell(report)
            # Others may have taken them; a full batch means that there are more.
            if len(reports) >= self._store.batch:
                return 0.0
            following = self._store.next_slot()
        if following is None:
            return self._pause
        return min(max((following - self._store.now()).total_seconds(), 0.0), self._pause)

    def _keep_entries(self) -> None:
        entries = read_entries(settings.BEAT_SCHEDULE, with_clean_up=_needs_clean_up())
        removed = self._store.keep_entries(entries)
        for name in removed:
            log_lines.setting_removed(name)
        for name, mistake in entries.mistakes.items():
            log_lines.setting_refused(name, mistake)
        self._has_entries = True

    def _plan_changed(self, now: float) -> None:
        change = self._store.last_change()
        is_first = self._look_again == 0.0
        if change == self._seen_change and now < self._look_again:
            return
        enabled, broken = self._store.plan_changed()
        self._seen_change = change
        self._look_again = now + LOOK_AGAIN
        for report in broken:
            self._tell(report)
        if is_first:
            log_lines.started(enabled)

    def _tell(self, report: Report) -> None:
        if report.error:
            log_lines.broken(report.entry, report.error, report.switched_off)
        elif report.slot is None or report.task_id is None:
            log_lines.expired(report.entry)
        else:
            self.sent += 1
            if (report.slot - report.due).total_seconds() >= LATE:
                log_lines.caught_up(report.entry, report.due, report.slot)
            log_lines.sent(report.entry, report.task, report.task_id, report.slot)

    # The database or the broker away

    def _note_away(self, error: OperationalError, now: float) -> float:
        if self._away_since is None:
            self._away_since = now
            log_lines.database_lost(str(error))
        pause, self._retry = self._retry, min(self._retry * 2, LONGEST_RETRY)
        return pause

    def _note_back(self, now: float) -> None:
        if self._away_since is not None:
            log_lines.database_restored(now - self._away_since)
            self._away_since, self._retry = None, FIRST_RETRY


def _needs_clean_up() -> bool:
    """Return whether old results stay for ever unless a task deletes them."""
    store = djqueue.app.backend.store
    return bool(settings.RESULT_EXPIRES) and store.keeps and not store.expires_by_itself
