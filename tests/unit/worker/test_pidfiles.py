"""A pid file is held by one living process; one left by a dead process is taken over."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from djqueue.exceptions import ImproperlyConfigured
from djqueue.worker.pidfiles import pid_file


def test_it_names_this_process_and_goes_away_with_the_block(tmp_path: Path) -> None:
    path = tmp_path / "worker.pid"
    with pid_file(path):
        assert int(path.read_text()) == os.getpid()
    assert not path.exists()


def test_a_file_of_a_process_that_runs_is_respected(tmp_path: Path) -> None:
    path = tmp_path / "worker.pid"
    path.write_text(f"{os.getppid()}\n")
    with pytest.raises(ImproperlyConfigured, match="which is running"), pid_file(path):
        pass
    assert int(path.read_text()) == os.getppid()


def test_a_file_of_a_process_that_is_gone_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "worker.pid"
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    path.write_text(f"{gone.pid}\n")
    with pid_file(path):
        assert int(path.read_text()) == os.getpid()
