"""Real commands in real processes: start a worker or beat, read its log, kill it in every way.

`Processes.start("runworker", "-c", "2")` gives a `Command` that runs in the test project on the test
database; its output goes to a file. Whatever a test leaves running is killed afterwards, found by a mark
in the environment even when its parent is long gone, and the end of each log is shown when the test fails.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals
from typing import Any

from tests.support import proctree
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
MARK = "DJQUEUE_TEST_MARK"
#: Enough to see why something failed, little enough to read.
LINES_SHOWN = 60


class Command:
    """One management command in a process of its own."""

    def __init__(
        self, command: list[str], environment: Mapping[str, str], log_path: Path, directory: Path
    ) -> None:
        self.command = command
        self.log_path = log_path
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def __repr__(self) -> str:
        return f"<{' '.join(self.command[3:])}, pid {self.pid}, exit status {self.exit_status}>"

    # What it says

    def log(self) -> str:
        """Return what it has printed so far."""
        return self.log_path.read_text(errors="replace")

    def wait_for_line(self, pattern: str, within: float = 15) -> re.Match[str]:
        """Return the match of the first place in the log where `pattern` is found; ^ and $ are line ends."""

        def found() -> re.Match[str] | None:
            match = re.search(pattern, self.log(), re.MULTILINE)
            if match is None and self.exit_status is not None:
                raise AssertionError(f"{self} ended without printing {pattern!r}. It printed:\n{self.log()}")
            return match

        match = wait_until(found, within, f"for {self} to print {pattern!r}")
        assert match is not None
        return match

    # Who it is

    @property
    def exit_status(self) -> int | None:
        """The exit status (negative: the signal that ended it), or None while it runs."""
        return self._process.poll()

    def children(self) -> list[int]:
        """Return the pids of its direct children."""
        return proctree.children(self.pid)

    def descendants(self) -> list[int]:
        """Return the pids of its children and theirs."""
        return proctree.descendants(self.pid)

    # What is done to it

    def signal(self, number: Signals) -> None:
        """Send a signal to the main process only."""
        self._process.send_signal(number)

    def signal_tree(self, number: Signals) -> list[int]:
        """Send a signal to the main process and all descendants; return their pids."""
        return proctree.signal_tree(self.pid, number)

    def stop(self) -> None:
        """Freeze the whole tree (SIGSTOP)."""
        self.signal_tree(SIGSTOP)

    def cont(self) -> None:
        """Let the whole tree run again (SIGCONT)."""
        self.signal_tree(SIGCONT)

    def kill(self) -> list[int]:
        """Kill the whole tree with SIGKILL, wait until it is gone, and return who was killed."""
        tree = self.signal_tree(SIGKILL)
        self.wait(within=5)
        wait_until(partial(proctree.are_gone, tree), 5, f"for the tree of {self} to be gone")
        return tree

    def kill_main(self) -> None:
        """Kill the main process only (SIGKILL); its children are left to notice."""
        self.signal(SIGKILL)
        self.wait(within=5)

    def terminate(self, within: float = 15) -> int:
        """Ask the main process to end (SIGTERM), and return its exit status."""
        self.signal(SIGTERM)
        return self.wait(within)

    def wait(self, within: float) -> int:
        """Return the exit status once it has ended."""
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            said = f"{self} did not end within {within:g} s. It printed:\n{self.log()}"
            raise AssertionError(said) from None


class Processes:
    """Starts commands for one test, and cleans up after it."""

    def __init__(
        self,
        logs: Path,
        environment: Mapping[str, str],
        directory: Path = ROOT,
        python: str = sys.executable,
    ) -> None:
        self.logs = logs
        self.directory = directory
        self.python = python
        self._mark = uuid.uuid4().hex
        self._environment = {**environment, MARK: self._mark}
        self.commands: list[Command] = []

    def start(
        self, *arguments: str, settings: Mapping[str, Any] | None = None, **environment: str
    ) -> Command:
        """Start a management command; `settings` become the process's `DJQUEUE`."""
        changes = dict(environment)
        if settings is not None:
            changes["DJQUEUE_TEST_SETTINGS"] = json.dumps(settings)
        return self.run(self.python, "-m", "django", *arguments, **changes)

    def run(self, *words: str, **environment: str) -> Command:
        """Start any program, for instance another system's worker; its log is named after its words."""
        name = re.sub(r"[^\w.]+", "-", " ".join(words[1:4]))
        log_path = self.logs / f"{len(self.commands)}-{name}.log"
        command = Command(list(words), {**self._environment, **environment}, log_path, self.directory)
        self.commands.append(command)
        return command

    def survivors(self) -> list[int]:
        """Return every living process that any of the commands left, whoever its parent is now."""
        return proctree.with_variable(MARK, self._mark)

    def close(self) -> None:
        """Kill what is left, and print the end of each log (pytest shows it if the test failed)."""
        while left := self.survivors():
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, SIGKILL)
            for command in self.commands:
                if command.pid in left:
                    command.wait(within=5)
            # One that is dying has no environment any more, but may still be there for a moment.
            wait_until(partial(proctree.are_gone, left), 5, f"for {left} to be gone")
        for command in self.commands:
            print(f"--- {command}", *command.log().splitlines()[-LINES_SHOWN:], sep="\n")
