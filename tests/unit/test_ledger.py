"""Tests of the ledger and its checker: crash tests are only as good as these.

Small ledgers written by hand come in; lost, doubled, unexpected and recovered tasks leave.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.ledger import ACCEPTED, ATTEMPTED, ENDED, FAULT, STARTED, Ledger, check


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


def write(ledger: Ledger, *lines: str) -> None:
    ledger.path.write_text("".join(line + "\n" for line in lines))


def test_an_empty_ledger_has_nothing_to_complain_of(ledger: Ledger) -> None:
    findings = check(ledger)
    assert (findings.accepted, findings.lost, findings.duplicates, findings.unexpected) == (0, [], 0, [])


def test_notes_of_several_processes_end_up_whole_in_one_file(ledger: Ledger) -> None:
    child = os.fork()
    ledger.note(STARTED, "from-both", attempt=3)
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    entries = ledger.entries()
    assert {(entry.event, entry.task_id, entry.attempt) for entry in entries} == {(STARTED, "from-both", 3)}
    assert {entry.pid for entry in entries} == {child, os.getpid()}


def test_accepted_and_never_ended_is_lost(ledger: Ledger) -> None:
    write(
        ledger, f"1.0 {ACCEPTED} a 0 1", f"1.1 {ACCEPTED} b 0 1", f"2.0 {STARTED} a 0 2", f"2.1 {ENDED} a 0 2"
    )
    assert check(ledger).lost == ["b"]


def test_what_the_system_calls_finished_is_not_lost(ledger: Ledger) -> None:
    write(ledger, f"1.0 {ACCEPTED} dead-letter 0 1")
    assert check(ledger, terminal=["dead-letter"]).lost == []


def test_every_start_beyond_the_first_is_counted(ledger: Ledger) -> None:
    write(
        ledger, f"1.0 {ACCEPTED} a 0 1", *[f"2.{n} {STARTED} a 0 2" for n in range(3)], f"3.0 {ENDED} a 0 2"
    )
    findings = check(ledger)
    assert findings.extra_starts == {"a": 2}
    assert findings.duplicates == 2


def test_what_nobody_asked_for_is_unexpected_but_an_attempt_may_have_gone_through(ledger: Ledger) -> None:
    write(ledger, f"1.0 {ATTEMPTED} unknown 0 1", f"2.0 {STARTED} unknown 0 2", f"2.0 {STARTED} ghost 0 2")
    assert check(ledger).unexpected == ["ghost"]


def test_recovery_is_the_longest_way_from_a_fault_to_the_next_start(ledger: Ledger) -> None:
    write(
        ledger,
        f"1.0 {STARTED} cut 0 2",
        f"1.0 {STARTED} whole 0 3",
        f"1.5 {ENDED} whole 0 3",
        f"2.0 {FAULT} - 0 1",
        f"3.5 {STARTED} cut 1 4",
        f"3.6 {ENDED} cut 1 4",
    )
    findings = check(ledger)
    assert findings.recovery == 1.5
    assert findings.never_restarted == []


def test_a_task_cut_short_and_never_started_again_is_named(ledger: Ledger) -> None:
    write(ledger, f"1.0 {STARTED} cut 0 2", f"2.0 {FAULT} - 0 1")
    assert check(ledger).never_restarted == ["cut"]
