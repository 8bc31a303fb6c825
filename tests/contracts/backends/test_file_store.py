"""What the store in files does beyond the contract: names, limits, half-written files, killed writers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from djqueue import states
from djqueue.conf import settings
from djqueue.exceptions import BackendStoreError, ImproperlyConfigured
from djqueue_results.backends.keyvalue.files import OWN, FileBackend
from tests.project.settings import DIRECTORY
from tests.support.processes import ROOT
from tests.support.results import document
from tests.support.waiting import wait_until


@pytest.fixture
def store(tmp_path: Path) -> FileBackend:
    return FileBackend(f"file://{tmp_path}")


@pytest.fixture
def stock(tmp_path: Path) -> Any:
    app = Celery("stock", backend=f"file://{tmp_path}", set_as_current=False, fixups=[])
    yield app
    app.close()


def own_files(directory: Path) -> list[str]:
    return [one.name for one in directory.iterdir() if one.name.startswith(OWN) and "lock" not in one.name]


def test_celery_reads_what_we_store_and_we_what_celery_stores(store: FileBackend, stock: Any) -> None:
    store.store_many([document("ours", value={"a": ["æ", 1]}, children=[[["child", None], None]])])
    theirs = stock.AsyncResult("ours")
    assert theirs.get(timeout=5, interval=0.01) == {"a": ["æ", 1]}
    assert [child.id for child in theirs.children] == ["child"]
    stock.backend.store_result("theirs", [1, 2], "SUCCESS")
    found = store.wait("theirs", timeout=5)
    assert found is not None
    assert found.value() == [1, 2]
    stock.backend.mark_as_failure("failed", KeyError("k"), traceback="Traceback…")
    failed = store.wait("failed", timeout=5)
    assert failed is not None
    assert isinstance(failed.value(), KeyError)


def test_a_success_by_either_is_final_for_the_other(store: FileBackend, stock: Any) -> None:
    stock.backend.store_result("theirs", 1, "SUCCESS")
    store.store_many([document("theirs", states.FAILURE, starts=3), document("ours", value=1)])
    stock.backend.store_result("ours", ValueError("late"), "FAILURE")
    assert [found.status for found in store.fetch_many(["theirs", "ours"]).values()] == ["SUCCESS"] * 2


def test_groups_are_kept_as_celery_keeps_them(store: FileBackend, stock: Any) -> None:
    members = [["group", None], [[["a", None], None], [["b", None], None]]]
    store.save_group("group", members)
    assert [one.id for one in stock.GroupResult.restore("group")] == ["a", "b"]
    stock.GroupResult("theirs", [stock.AsyncResult("c")]).save()
    assert store.restore_group("theirs") == [["theirs", None], [[["c", None], None]]]


def test_files_are_called_as_by_celery(store: FileBackend, tmp_path: Path) -> None:
    store.store_many([document("a", value=1)])
    assert json.loads((tmp_path / "celery-task-meta-a").read_text())["result"] == 1
    with settings.override(RESULT_BACKEND_TRANSPORT_OPTIONS={"global_keyprefix": "shop"}):
        FileBackend(store.url).store_many([document("a", value=2)])
    assert json.loads((tmp_path / "shop_celery-task-meta-a").read_text())["result"] == 2
    assert own_files(tmp_path) == []


def test_results_are_compressed_as_by_celery(store: FileBackend, stock: Any, tmp_path: Path) -> None:
    stock.conf.result_compression = "zlib"
    with settings.override(RESULT_COMPRESSION="zlib"):
        store.store_many([document("ours", value="x" * 10_000)])
        store.save_group("group", [["group", None], [[["a", None], None]]])
    assert len((tmp_path / "celery-task-meta-ours").read_bytes()) < 1_000
    assert stock.AsyncResult("ours").get(timeout=5, interval=0.01) == "x" * 10_000
    assert [one.id for one in stock.GroupResult.restore("group")] == ["a"]
    stock.backend.store_result("theirs", [1, 2], "SUCCESS")
    store.store_many([document("theirs", states.FAILURE, starts=3)])
    found = store.fetch("theirs")
    assert found is not None
    assert found.value() == [1, 2]


@pytest.mark.parametrize("task_id", ["../escaped", "/etc/passwd", "a/b", "..", "."])
def test_no_id_leads_out_of_the_directory(store: FileBackend, tmp_path: Path, task_id: str) -> None:
    store.store_many([document(task_id, value=1)])
    found = store.fetch(task_id)
    assert found is not None
    assert found.value() == 1
    assert [one for one in tmp_path.rglob("*") if one.parent != tmp_path] == []
    assert len([one for one in tmp_path.iterdir() if one.name.startswith("celery-task-meta-")]) == 1


def test_a_file_that_is_being_written_is_no_document_yet(store: FileBackend, tmp_path: Path) -> None:
    (tmp_path / "celery-task-meta-a").touch()
    assert store.fetch("a") is None
    store.store_many([document("a", value=1)])
    assert store.fetch("a") is not None


def test_a_damaged_file_gives_way(store: FileBackend, tmp_path: Path) -> None:
    (tmp_path / "celery-task-meta-a").write_text('{"status": "SUC')
    store.store_many([document("a", value=1), document("b", value=2)])
    assert [found.value() for found in store.fetch_many(["a", "b"]).values()] == [1, 2]


def test_cleaning_up_leaves_the_files_of_others(store: FileBackend, tmp_path: Path) -> None:
    store.store_many([document("old"), document("new")])
    store.save_group("old", [["old", None], []])
    (tmp_path / "readme").write_text("not ours")
    (tmp_path / os.fsdecode(b"celery-task-meta-\xff")).write_text("a name that is no text")
    (tmp_path / f"{OWN}of-one-who-was-killed").write_text("half")
    long_ago = time.time() - 2 * 86_400
    for name in ("celery-task-meta-old", "celery-taskset-meta-old", "readme", f"{OWN}of-one-who-was-killed"):
        os.utime(tmp_path / name, (long_ago, long_ago))
    assert store.clean_up() == 1
    assert store.restore_group("old") is None
    assert list(store.fetch_many(["old", "new"])) == ["new"]
    assert (tmp_path / "readme").exists()
    assert own_files(tmp_path) == []


@pytest.mark.parametrize("url", ["file://", "file://relative/path", "file:"])
def test_the_path_must_be_whole(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="by its whole path"):
        FileBackend(url)


def test_the_path_may_have_a_host(tmp_path: Path) -> None:
    assert FileBackend(f"file://localhost{tmp_path}").as_uri() == f"file://{tmp_path}"


def test_what_is_no_directory_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, says in (("missing", "No such file"), ("file", "Not a directory")):
        with pytest.raises(ImproperlyConfigured, match=f"{name}.*{says}.* must exist"):
            FileBackend(f"file://{tmp_path}/{name}")
    with (
        settings.override(RESULT_BACKEND_TRANSPORT_OPTIONS={"global_keyprefix": "a/b"}),
        pytest.raises(ImproperlyConfigured, match="no slash"),
    ):
        FileBackend(f"file://{tmp_path}")


def test_a_directory_that_has_gone_is_told_of_and_may_come_back(store: FileBackend, tmp_path: Path) -> None:
    away = tmp_path.with_name("away")
    tmp_path.rename(away)
    with pytest.raises(BackendStoreError, match="could not be written") as caught:
        store.store_many([document("a", value=1)])
    assert (caught.value.task_id, caught.value.state) == ("a", states.SUCCESS)
    assert store.fetch("a") is None
    away.rename(tmp_path)
    store.store_many([document("a", value=1)])
    assert store.fetch("a") is not None


PROCESS = """
import resource, sys
import django
django.setup()
from djqueue_results.backends.keyvalue.files import FileBackend
from tests.support.results import document
store = FileBackend(sys.argv[1])
if sys.argv[2] == "limited":
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    store.store_many([document("large", value="x" * 20_000), document("small", value=1)])
else:
    print("begins", flush=True)
    for number in range(10**9):
        store.store_many([document("a", "PROGRESS", value="x" * 1_000_000, starts=number)])
"""


def process(store: FileBackend, what: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "DJQUEUE_TEST_DIR": str(DIRECTORY),
        "DJANGO_SETTINGS_MODULE": "tests.project.settings",
    }
    words = [sys.executable, "-c", PROCESS, store.as_uri(), what]
    return subprocess.Popen(words, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_a_result_that_is_too_large_becomes_a_failure_that_says_so(
    store: FileBackend, tmp_path: Path
) -> None:
    with process(store, "limited") as writer:
        assert writer.wait(30) == 0
    kept = store.fetch_many(["large", "small"])
    assert [one.status for one in kept.values()] == [states.FAILURE, states.SUCCESS]
    assert "too large" in str(kept["large"].value())
    assert own_files(tmp_path) == []


def test_a_writer_that_is_killed_leaves_a_whole_document_and_no_lock(store: FileBackend) -> None:
    with process(store, "endless") as writer:
        wait_until(lambda: store.fetch("a") is not None, 30, "for the writer to begin")
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait(10)
    kept = store.fetch("a")
    assert kept is not None
    assert len(kept.value()) == 1_000_000
    store.store_many([document("a", value="the end", retries=1)])
    kept = store.fetch("a")
    assert kept is not None
    assert kept.value() == "the end"
