"""Writers in threads and processes, all at the same tasks.

Batches come from everywhere at once; what is left is always the newest attempt.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading

import pytest

from djqueue import states
from djqueue.result.contract import ResultBackend
from tests.contracts.backends.stores import IN_THIS_PROCESS, in_thread
from tests.project.settings import DIRECTORY
from tests.support.processes import ROOT
from tests.support.results import document
from tests.support.waiting import wait_until


def test_threads_that_write_at_once_leave_the_newest(shared_store: ResultBackend) -> None:
    tasks = [f"task-{number}" for number in range(20)]
    errors: list[BaseException] = []

    def write(seed: int) -> None:
        chance = random.Random(seed)
        try:
            for _ in range(10):
                some = chance.sample(tasks, 8)
                shared_store.store_many(
                    [document(one, states.STARTED, retries=chance.randrange(50), value=seed) for one in some]
                )
            shared_store.store_many(
                [document(one, states.FAILURE, retries=50 + seed, value=seed) for one in tasks]
            )
        except BaseException as error:
            errors.append(error)

    writers = [threading.Thread(target=in_thread, args=[lambda seed=seed: write(seed)]) for seed in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert errors == []

    def are_newest() -> bool:
        return {(one.retries, one.result) for one in shared_store.fetch_many(tasks).values()} == {(53, "3")}

    # Where results are messages, the last of them may still be on their way.
    wait_until(are_newest, 10, "for the newest of every task")


PROCESS = """
import sys
import django
import pytest
django.setup()
from tests.contracts.backends.stores import STORES
from tests.support.results import document
store, seed = STORES[sys.argv[1]](pytest.MonkeyPatch()), int(sys.argv[2])
for round in range(20):
    store.store_many([document(f"task-{n}", "STARTED", retries=round * 3 + seed) for n in range(30)])
"""


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_processes_that_write_at_once_leave_the_newest(shared_store: ResultBackend, store_name: str) -> None:
    if not shared_store.is_shared or store_name in IN_THIS_PROCESS:
        pytest.skip("only one process knows the store")
    environment = {**os.environ, "DJQUEUE_TEST_DIR": str(DIRECTORY)}
    writers = [
        subprocess.Popen([sys.executable, "-c", PROCESS, store_name, str(seed)], env=environment, cwd=ROOT)
        for seed in range(3)
    ]
    assert [writer.wait(timeout=100) for writer in writers] == [0, 0, 0]
    kept = shared_store.fetch_many([f"task-{number}" for number in range(30)])
    assert {one.retries for one in kept.values()} == {59}
    assert len(kept) == 30
