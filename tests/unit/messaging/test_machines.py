"""Who is seen to be dead, and where start boards may lie.

Real processes are started and ended; directories are made as a careless or a hostile neighbour would.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from djqueue.messaging import boards, machines

ASK = """
from djqueue.messaging.machines import new_consumer
print(new_consumer(), flush=True)
input()
"""


def test_this_process_is_alive() -> None:
    assert not machines.is_gone(machines.new_consumer())


def test_ids_are_never_the_same_and_fit_into_tags() -> None:
    ids = {machines.new_consumer() for _ in range(1000)}
    assert len(ids) == 1000
    assert max(map(len, ids)) <= 60
    assert {machines.machine_of(one) for one in ids} == {machines.this_machine()}


def test_a_process_that_ended_is_gone_and_one_that_stopped_is_not() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ASK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    consumer = process.stdout.readline().strip()
    assert not machines.is_gone(consumer)
    process.communicate("\n", timeout=10)
    assert machines.is_gone(consumer)


def test_another_process_with_the_same_number_does_not_count() -> None:
    machine, process, started, token = machines.new_consumer().split(".")
    assert machines.is_gone(f"{machine}.{process}.{int(started) - 1}.{token}")


@pytest.mark.parametrize(
    "consumer", ["", "x", "a.b", "0.1.2.3.4", "abcdef01.one.two.three", "abcdef01.1.1.aa"]
)
def test_of_others_nothing_is_known(consumer: str) -> None:
    assert not machines.is_gone(consumer)


def test_boards_lie_in_a_directory_of_this_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    path = boards.path_of("worker@host/../../etc/passwd")
    assert path is not None
    assert path.parent == tmp_path / f"djqueue-{os.getuid()}"
    assert path.resolve().parent == path.parent


@pytest.mark.parametrize("spoil", ["link", "open to others", "file"])
def test_a_directory_that_others_can_enter_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    directory = tmp_path / f"djqueue-{os.getuid()}"
    if spoil == "link":
        directory.symlink_to(tmp_path)
    elif spoil == "file":
        directory.touch()
    else:
        directory.mkdir(mode=0o755)
    assert boards.path_of("worker") is None
    if spoil == "open to others":
        directory.chmod(0o700)
        assert boards.path_of("worker") is not None
