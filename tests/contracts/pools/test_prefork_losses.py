"""Children that die: the job they ran is lost, nothing else is, and another child takes over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from djqueue.worker.pools import NurseryLost
from tests.contracts.pools.conftest import MakeDriver
from tests.contracts.pools.driver import Driver
from tests.support import proctree
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    ("deed", "arguments", "cause"),
    [
        ("kill_self", (9,), "was killed by signal 9 (SIGKILL)"),
        ("exit_at_once", (3,), "exited with status 3"),
        ("exit_at_once", (0,), "exited with status 0"),
        ("segfault", (), "was killed by signal 11 (SIGSEGV)"),
        ("kill_self", (6,), "was killed by signal 6 (SIGABRT)"),
    ],
)
def test_a_job_whose_child_dies_is_lost_with_the_cause(
    prefork: Driver, deed: str, arguments: tuple[int, ...], cause: str
) -> None:
    began = time.monotonic()
    lost = prefork.loss(prefork.do(deed, *arguments))
    assert lost.started
    assert cause in lost.cause
    assert lost.timed_out is None
    assert time.monotonic() - began < 1
    prefork.ready()


def test_jobs_that_the_dead_child_had_not_started_are_returned(make_driver: MakeDriver) -> None:
    driver = make_driver("prefork", size=1)
    jobs = [driver.job("nothing", expected_runtime=0.0005) for _ in range(3)]
    murder = driver.job("kill_self", 9, expected_runtime=0.0005)
    behind = [driver.job("nothing", expected_runtime=0.0005) for _ in range(5)]
    driver.submit(*jobs, murder, *behind)
    driver.until(driver.is_settled, 5, "for every job to come back")
    assert sorted(driver.returned) == [job.number for job in behind]
    assert murder.number in driver.lost
    ran = driver.finished.keys() | driver.lost.keys()
    assert ran == {job.number for job in (*jobs, murder)}
    assert all(lost.started for lost in driver.lost.values())


def test_what_a_child_reported_before_it_died_counts(make_driver: MakeDriver, tmp_path: Path) -> None:
    driver = make_driver("prefork", size=1)
    mark = tmp_path / "started"
    first = driver.job("nothing", expected_runtime=0.0005)
    second = driver.job("touch_and_wait_for", str(mark), str(tmp_path / "never"), expected_runtime=0.008)
    driver.submit(first, second)
    wait_until(mark.exists, 5, "for the second job to start")  # nothing is collected meanwhile
    os.kill(driver.pool.pid(second.number), signal.SIGKILL)
    driver.until(driver.is_settled, 5, "for both to come back")
    assert first.number in driver.finished
    assert second.number in driver.lost


def test_a_child_killed_from_outside_leaves_the_other_undisturbed(prefork: Driver, tmp_path: Path) -> None:
    path = tmp_path / "go"
    numbers = [prefork.do("wait_for", str(path)) for _ in range(2)]
    prefork.until(lambda: len(list(prefork.pool.running())) == 2, 5, "for both to start")
    victim, survivor = numbers
    os.kill(prefork.pool.pid(victim), signal.SIGKILL)
    assert prefork.loss(victim).started
    path.touch()
    prefork.outcome(survivor)
    prefork.ready()


def test_an_idle_child_that_dies_is_replaced(prefork: Driver) -> None:
    pid = prefork.answer(prefork.do("nothing"))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not proctree.is_alive(pid), 5, "for the child to be gone")
    prefork.until(lambda: prefork.pool.room() < 2, 5, "for the death to be noticed")
    prefork.ready()
    assert prefork.answer(prefork.do("nothing")) != pid


@pytest.mark.slow
def test_hundreds_of_children_may_die(prefork: Driver) -> None:
    jobs = [prefork.job("kill_self" if at % 2 else "nothing", *((9,) if at % 2 else ())) for at in range(200)]
    prefork.run_all(jobs, within=40)
    assert len(prefork.lost) == 100
    assert len(prefork.finished) == 100


def test_a_process_that_the_task_left_behind_does_not_hide_the_death(prefork: Driver, tmp_path: Path) -> None:
    path = tmp_path / "go"
    assert "SIGKILL" in prefork.loss(prefork.do("fork_and_linger", str(path)), within=3).cause
    path.touch()


def test_a_task_that_forks_and_returns_twice_is_reported_once(prefork: Driver) -> None:
    copy = prefork.answer(prefork.do("fork_and_return"))
    wait_until(lambda: not proctree.is_alive(copy), 5, "for the copy to end")
    for _ in range(10):
        prefork.outcome(prefork.do("nothing"))


@pytest.mark.parametrize("deed", ["close_descriptors", "write_into_descriptors"])
def test_a_task_that_breaks_its_descriptors_costs_its_child_only(prefork: Driver, deed: str) -> None:
    number = prefork.do(deed)
    prefork.until(prefork.is_settled, 10, "for the job to come back")
    assert number in prefork.lost
    prefork.ready()
    prefork.outcome(prefork.do("nothing"))


def test_the_hard_limit_ends_code_that_no_signal_reaches(prefork: Driver) -> None:
    began = time.monotonic()
    number = prefork.do("spin_in_c", hard_limit=0.2, soft_limit=0.1)
    assert prefork.loss(number).timed_out == 0.2
    assert time.monotonic() - began < 1.2


def test_the_hard_limit_ends_what_the_task_started_as_well(prefork: Driver, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    prefork.do("start_program", "", str(mark), hard_limit=1.0)
    pid = int(prefork.until(lambda: mark.exists() and mark.read_text(), 5, "for the program to start"))
    prefork.until(prefork.is_settled, 5, "for the limit")
    wait_until(lambda: not proctree.is_alive(pid), 2, "for the program to be gone")


@pytest.mark.slow
def test_limits_can_be_reached_again_and_again(prefork: Driver, tmp_path: Path) -> None:
    jobs = [prefork.job("wait_for", str(tmp_path / "never"), hard_limit=0.02) for _ in range(60)]
    prefork.run_all(jobs, within=30)
    assert all(lost.timed_out == 0.02 for lost in prefork.lost.values())
    assert len(prefork.lost) == 60


def test_a_running_job_can_be_terminated(prefork: Driver, tmp_path: Path) -> None:
    number = prefork.do("wait_for", str(tmp_path / "never"))
    prefork.until(lambda: list(prefork.pool.running()), 5, "for the job to start")
    assert prefork.pool.terminate(number, "it was revoked") is True
    lost = prefork.loss(number)
    assert "it was revoked" in lost.cause
    assert lost.timed_out is None


def test_a_job_terminated_just_as_it_starts_is_killed_or_returned(prefork: Driver, tmp_path: Path) -> None:
    for _ in range(20):
        number = prefork.do("wait_for", str(tmp_path / "never"))
        assert prefork.pool.terminate(number, "it was revoked") is True
        prefork.until(prefork.is_settled, 5, "for the job to come back")
        prefork.ready()


def test_a_child_that_does_not_read_never_blocks_the_parent(prefork: Driver, tmp_path: Path) -> None:
    path = tmp_path / "go"
    numbers = [prefork.do("wait_for", str(path)) for _ in range(2)]
    prefork.until(lambda: len(list(prefork.pool.running())) == 2, 5, "for both to start")
    stopped = prefork.pool.pid(numbers[0])
    os.kill(stopped, signal.SIGSTOP)
    path.touch()
    prefork.outcome(numbers[1])
    big = "x" * (4 << 20)
    # Both children are free for what the parent knows: one of these goes to the stopped one.
    began = time.monotonic()
    prefork.pool.submit([])
    for child in list(prefork.pool._children.values()):  # type: ignore[attr-defined]
        child.line.send((1, [0, big]))  # TAKE_BACK with far more than a socket holds
    prefork.cycle(0)
    assert time.monotonic() - began < 1
    os.kill(stopped, signal.SIGCONT)
    prefork.outcome(numbers[0])
    prefork.ready()


def test_big_jobs_and_big_outcomes_travel_whole(prefork: Driver) -> None:
    text = "0123456789" * 300_000
    for _ in range(3):
        headers, *_ = prefork.answer(prefork.do("echo", headers={"big": text}))
        assert headers["big"] == text


def test_signals_to_the_whole_group_do_not_reach_the_children(prefork: Driver, tmp_path: Path) -> None:
    path = tmp_path / "go"
    number = prefork.do("wait_for", str(path))
    prefork.until(lambda: list(prefork.pool.running()), 5, "for the job to start")
    for pid in (prefork.pool.pid(number), prefork.pool._nursery.pid):  # type: ignore[attr-defined]
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            os.kill(pid, signum)
    path.touch()
    prefork.outcome(number)
    prefork.outcome(prefork.do("nothing"))


def test_the_loss_of_the_nursery_is_told(prefork: Driver, tmp_path: Path) -> None:
    number = prefork.do("wait_for", str(tmp_path / "never"))
    prefork.until(lambda: list(prefork.pool.running()), 5, "for the job to start")
    children = [child.pid for child in prefork.pool._children.values()]  # type: ignore[attr-defined]
    os.kill(prefork.pool._nursery.pid, signal.SIGKILL)  # type: ignore[attr-defined]
    with pytest.raises(NurseryLost):
        prefork.until(lambda: number in prefork.finished, 5, "for the loss to be noticed")
    wait_until(lambda: not any(map(proctree.is_alive, children)), 1, "for the children to die with it")


WORKER = """
import os, sys, time
sys.path.insert(0, {root!r})
import django
django.setup()
from djqueue.messaging.startboard import StartBoard
from djqueue.worker import pools
from tests.contracts.pools import deeds
from tests.contracts.pools.driver import Driver
board = StartBoard.create(None, 4)
driver = Driver(pools.create("prefork", size=2, board=board, worker="w", perform=deeds.perform)).ready()
for _ in range(2):
    driver.do("wait_for", {path!r})
driver.until(lambda: len(list(driver.pool.running())) == 2, 5, "for both to start")
print("ready", flush=True)
driver.until(lambda: len(driver.finished) == 2, 50, "for the jobs")
print("finished", flush=True)
driver.close()
"""


def start_worker(path: Path) -> subprocess.Popen[str]:
    """Start a process with a pool whose two jobs wait for the file, in a process group of its own."""
    root = Path(__file__).resolve().parents[3]
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER.format(root=str(root), path=str(path))],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"
    return worker


def test_children_die_with_the_parent(tmp_path: Path) -> None:
    worker = start_worker(tmp_path / "never")
    family = proctree.descendants(worker.pid)
    assert len(family) == 3  # the nursery and two children
    worker.kill()
    worker.communicate()
    wait_until(lambda: not any(map(proctree.is_alive, family)), 1, "for nursery and children to die")


def test_a_signal_to_the_group_is_for_the_parent_alone(tmp_path: Path) -> None:
    worker = start_worker(tmp_path / "go")
    family = proctree.descendants(worker.pid)
    os.killpg(worker.pid, signal.SIGSTOP)  # so that the parent does not act before we have looked
    os.killpg(worker.pid, signal.SIGHUP)
    assert all(map(proctree.is_alive, family))
    os.killpg(worker.pid, signal.SIGKILL)
    worker.communicate()
    wait_until(lambda: not any(map(proctree.is_alive, family)), 1, "for nursery and children to die")


def test_closing_leaves_no_process_behind(prefork: Driver, tmp_path: Path) -> None:
    prefork.do("wait_for", str(tmp_path / "never"))
    prefork.until(lambda: list(prefork.pool.running()), 5, "for the job to start")
    nursery = prefork.pool._nursery.pid  # type: ignore[attr-defined]
    family = [nursery, *proctree.children(nursery)]
    assert len(family) == 3
    prefork.pool.close()
    wait_until(lambda: not any(map(proctree.is_alive, family)), 2, "for all processes to end")
