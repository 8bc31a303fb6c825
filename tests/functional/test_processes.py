"""Tests of the processes that tests start: they can be read, frozen, killed whole, and never outlive a test.

A command that forks a child comes in; what is left of its tree afterwards is looked up in /proc.
"""

from __future__ import annotations

import signal

import pytest

from tests.support import proctree
from tests.support.processes import Command, Processes
from tests.support.waiting import wait_until

#: A parent and a child, both asleep; neither dies of the other's end.
FAMILY = "import os, time; child = os.fork(); print('up' if child else 'child', flush=True); time.sleep(60)"


@pytest.fixture
def family(processes: Processes) -> Command:
    command = processes.start("shell", "-c", FAMILY)
    command.wait_for_line("^up$")
    command.wait_for_line("^child$")
    return command


def test_a_command_is_killed_with_all_its_descendants(family: Command, processes: Processes) -> None:
    [child] = family.children()
    assert family.kill() == [family.pid, child]
    assert family.exit_status == -signal.SIGKILL
    assert processes.survivors() == []


def test_what_outlives_its_parent_is_still_found(family: Command, processes: Processes) -> None:
    [child] = family.children()
    family.kill_main()
    assert processes.survivors() == [child]
    processes.close()
    assert not proctree.is_alive(child)


def test_a_frozen_command_goes_on(family: Command) -> None:
    [child] = family.children()
    family.stop()
    wait_until(lambda: proctree.state(child) == "T", 5, "for the child to freeze")
    family.cont()
    wait_until(lambda: proctree.state(child) == "S", 5, "for the child to go on")


def test_a_command_that_ends_without_the_awaited_line_is_shown(processes: Processes) -> None:
    command = processes.start("shell", "-c", "print('something else')")
    with pytest.raises(AssertionError, match=r"(?s)ended without printing.*something else"):
        command.wait_for_line("never said")
    assert command.wait(within=5) == 0


def test_settings_reach_the_command_and_it_sees_the_tests_database(processes: Processes) -> None:
    code = "from django.conf import settings as s; print(s.DJQUEUE, s.DATABASES['default']['NAME'])"
    command = processes.start("shell", "-c", code, settings={"TASK_DEFAULT_QUEUE": "mine"})
    command.wait_for_line(r"{'TASK_DEFAULT_QUEUE': 'mine'} .*default\.sqlite3")
