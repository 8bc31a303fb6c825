"""What a child is like: what it inherits, when it is replaced, what it tells its signals' receivers."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from djqueue import signals
from djqueue.messaging.startboard import StartBoard
from djqueue.worker import pools
from tests.contracts.pools import deeds
from tests.contracts.pools.conftest import MakeDriver
from tests.contracts.pools.driver import Driver


def test_children_are_grandchildren_in_groups_of_their_own(prefork: Driver) -> None:
    about = prefork.answer(prefork.do("about_me"))
    assert about["parent"] == prefork.pool._nursery.pid  # type: ignore[attr-defined]
    assert about["group"] == about["pid"] != os.getpgid(0)
    assert about["blocked"] == []
    assert about["wakeup_fd"] == -1
    assert about["oom_score_adj"] == "500"


def test_children_hold_no_socket_but_their_own(make_driver: MakeDriver) -> None:
    inherited = count_open_sockets()  # what earlier tests of this run left open before the nursery was forked
    driver = make_driver("prefork", size=4)
    first = {child.pid for child in driver.pool._children.values()}  # type: ignore[attr-defined]
    sockets = []
    with socket.socket():  # opened by the parent after the nursery was forked
        for _ in range(12):
            number = driver.do("kill_self", 9)
            driver.loss(number)
            driver.ready()
            about = driver.answer(driver.do("about_me"))
            sockets.append(about["sockets"])
            if about["pid"] not in first and len(sockets) > 5:
                break
    assert set(sockets) == {min(sockets)}
    assert min(sockets) <= 1 + inherited


def count_open_sockets() -> int:
    with socket.socket():  # one that is surely there, so that the way of counting is checked, too
        found = deeds.count_sockets()
    return found - 1


def test_no_two_children_draw_the_same_random_numbers(make_driver: MakeDriver) -> None:
    driver = make_driver("prefork", size=1, max_tasks_per_child=1)
    driver.run_all([driver.job("about_me") for _ in range(5)], within=10)
    assert len({deeds.answer(outcome)["random"] for outcome in driver.finished.values()}) == 5


def test_a_child_is_replaced_after_so_many_tasks(make_driver: MakeDriver) -> None:
    driver = make_driver("prefork", size=2, max_tasks_per_child=3)
    jobs = [driver.job("nothing", expected_runtime=0.0005) for _ in range(60)]
    driver.run_all(jobs, within=20)
    assert len(driver.finished) == 60
    assert driver.lost == {}
    ran = Counter(deeds.answer(outcome) for outcome in driver.finished.values())
    assert max(ran.values()) == 3
    assert len(ran) >= 20


@pytest.mark.slow
def test_a_child_per_task_loses_nothing(make_driver: MakeDriver) -> None:
    driver = make_driver("prefork", size=2, max_tasks_per_child=1)
    jobs = [driver.job("nothing", expected_runtime=(0.0, 0.0005)[at % 2]) for at in range(300)]
    driver.run_all(jobs, within=50)
    assert len({deeds.answer(outcome) for outcome in driver.finished.values()}) == 300
    assert driver.lost == {}


def test_a_child_that_holds_too_much_memory_is_replaced_after_the_task(make_driver: MakeDriver) -> None:
    here = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    driver = make_driver("prefork", size=1, max_memory_per_child=here + 40 * 1024)
    small = driver.answer(driver.do("nothing"))
    assert driver.answer(driver.do("nothing")) == small
    behind = [driver.job("nothing", expected_runtime=0.0005) for _ in range(3)]
    driver.run_all(
        [driver.job("hold_memory", here // 1024 + 60, expected_runtime=0.0005), *behind], within=10
    )
    assert driver.lost == {}
    pids = [deeds.answer(driver.finished[job.number]) for job in behind]
    assert small not in pids


@pytest.fixture
def diary(tmp_path: Path) -> Iterator[Path]:
    """A file in which the receivers of the child signals note what they were told."""
    path = tmp_path / "diary"

    def note_init(**told: Any) -> None:
        with path.open("a") as diary:
            diary.write(f"init {os.getpid()}\n")

    def note_shutdown(**told: Any) -> None:
        with path.open("a") as diary:
            diary.write(f"shutdown {told['pid']} {told['exitcode']}\n")

    signals.worker_process_init.connect(note_init)
    signals.worker_process_shutdown.connect(note_shutdown)
    yield path
    signals.worker_process_init.disconnect(note_init)
    signals.worker_process_shutdown.disconnect(note_shutdown)


def test_each_child_tells_when_it_begins_and_ends(make_driver: MakeDriver, diary: Path) -> None:
    driver = make_driver("prefork", size=1, max_tasks_per_child=1)
    pid = driver.answer(driver.do("nothing"))
    driver.ready()
    driver.pool.close()
    lines = diary.read_text().splitlines()
    assert f"init {pid}" in lines
    assert f"shutdown {pid} 0" in lines
    assert Counter(line.split()[0] for line in lines) == {"init": 2, "shutdown": 2}


def test_a_child_that_cannot_begin_is_tried_again_with_patience(caplog: pytest.LogCaptureFixture) -> None:
    def die(**told: Any) -> None:
        os._exit(7)

    signals.worker_process_init.connect(die)
    pool = pools.create(
        "prefork", size=1, board=StartBoard.create(None, 2), worker="w1@here", perform=deeds.perform
    )
    driver = Driver(pool)
    try:
        driver.until(lambda: caplog.text.count("exited with status 7") >= 3, 5, "for three tries")
        assert caplog.text.count("exited with status 7") == 3  # 0.1 s and 0.2 s lay between them
    finally:
        signals.worker_process_init.disconnect(die)
        driver.close()


def test_a_fork_that_fails_is_tried_again(make_driver: MakeDriver, caplog: pytest.LogCaptureFixture) -> None:
    driver = make_driver("prefork", size=1)
    nursery = driver.pool._nursery.pid  # type: ignore[attr-defined]
    limits = resource.prlimit(
        nursery, resource.RLIMIT_NOFILE, (5, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    )
    driver.loss(driver.do("kill_self", 9))
    driver.until(lambda: "djq.child.not_made" in caplog.text, 5, "for the failure to be told")
    assert "Too many open files" in caplog.text
    resource.prlimit(nursery, resource.RLIMIT_NOFILE, limits)
    driver.ready()
    driver.outcome(driver.do("nothing"))


def test_a_parent_without_free_descriptors_tries_again(
    make_driver: MakeDriver, caplog: pytest.LogCaptureFixture
) -> None:
    driver = make_driver("prefork", size=1)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    hoard: list[int] = []

    def is_told() -> bool:
        """Take every descriptor that has become free, by the child's end too, before anybody else can."""
        with suppress(OSError):
            while True:
                hoard.append(os.dup(0))
        return "too many open files" in caplog.text

    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 5, limits[1]))
        driver.do("kill_self", 9)
        driver.until(is_told, 5, "for the failure to be told")
    finally:
        for number in hoard:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    driver.ready()
    driver.outcome(driver.do("nothing"))


def test_what_children_print_goes_where_the_parent_prints(
    make_driver: MakeDriver, capfd: pytest.CaptureFixture[str]
) -> None:
    driver = make_driver("prefork", size=1)
    driver.loss(driver.do("segfault"))
    assert "Segmentation fault" in capfd.readouterr().err  # faulthandler's, from the child


def test_the_soft_limit_is_raised_in_the_task_only_and_not_around_it(
    make_driver: MakeDriver, tmp_path: Path
) -> None:
    driver = make_driver("prefork", size=1)
    path = tmp_path / "go"
    number = driver.do("wait_before", str(path), soft_limit=0.05)
    since = time.monotonic()
    driver.until(lambda: time.monotonic() - since > 0.4, 2, "for several chances to raise it")
    path.touch()
    assert driver.answer(number) == str(path)
