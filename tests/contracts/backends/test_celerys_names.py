"""Stores by Celery's names: what `app.backend` offers, on every store; and that Celery's own says the same.

Who sets a state here does not run the task: what its worker has kept so far must not stand in the way.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import celery
import pytest

from djqueue import AsyncResult, GroupResult, app, exceptions, shared_task, states
from djqueue.conf import settings
from djqueue.core.requests import Request, attempt_number
from djqueue.exceptions import BackendGetMetaError, ImproperlyConfigured, TaskRevokedError
from djqueue.result.contract import ResultBackend
from djqueue.result.facade import Backend
from tests.contracts.backends.stores import in_thread
from tests.support.results import document
from tests.support.servers import Server


@pytest.fixture
def backend(store: ResultBackend) -> Backend:
    return Backend(store)


@pytest.fixture
def celerys(redis_server: Server, store: ResultBackend) -> Iterator[Any]:
    """Celery's own backend on the same Redis."""
    theirs = celery.Celery("names", backend=redis_server.url, set_as_current=False)
    yield theirs.backend
    theirs.backend.result_consumer.stop()
    theirs.backend.client.close()


only_redis = pytest.mark.parametrize("store_name", ["redis"], indirect=True)


def test_nothing_is_known_of_an_unknown_task(backend: Backend) -> None:
    assert backend.get_task_meta("unknown") == {"status": "PENDING", "result": None}
    assert (backend.get_state("unknown"), backend.get_result("unknown")) == ("PENDING", None)
    assert (backend.get_traceback("unknown"), backend.get_children("unknown")) == (None, None)


def test_what_is_kept_of_a_task_is_told(backend: Backend, store: ResultBackend) -> None:
    children = [[["b", None], None]]
    store.store_many([document("a", value=[7], children=children)])
    assert (backend.get_status("a"), backend.get_result("a")) == (states.SUCCESS, [7])
    assert [list(child) for child in backend.get_children("a") or []] == children
    backend.forget("a")
    assert backend.get_state("a") == states.PENDING


def test_a_state_that_is_set_from_outside_counts_for_the_run_that_is_known(
    backend: Backend, store: ResultBackend
) -> None:
    known = attempt_number(1, 2)
    store.store_many([document("a", states.STARTED, attempt=known, retries=1)])
    assert backend.store_result("a", {"done": 1}, "PROGRESS") == {"done": 1}
    assert (backend.get_state("a"), backend.get_result("a")) == ("PROGRESS", {"done": 1})
    backend.mark_as_done("a", "by hand")
    assert (backend.get_state("a"), backend.get_result("a")) == (states.SUCCESS, "by hand")
    backend.mark_as_failure("a", ValueError("too late"))
    assert backend.get_result("a") == "by hand", "a success is final"


@pytest.mark.parametrize("store_name", ["django-db", "redis"], indirect=True)
def test_a_task_that_runs_elsewhere_can_be_given_a_state(store: ResultBackend) -> None:
    mark = shared_task(name="names.mark")(lambda: None)
    store.store_many([document("a", states.STARTED, attempt=1)])
    with settings.override(RESULT_BACKEND=store.url):
        assert app.backend.store is store
        mark.update_state("a", "PROGRESS", {"done": 2})
        assert mark.backend.get_result("a") == {"done": 2}


def test_ends_of_every_kind_can_be_set(backend: Backend) -> None:
    backend.mark_as_started("started", pid=7)
    assert backend.get_task_meta("started")["result"] == {"pid": 7}
    backend.mark_as_retry("retried", OSError("again"))
    assert backend.get_state("retried") == states.RETRY
    backend.mark_as_failure("failed", KeyError("k"), "Traceback …")
    assert isinstance(backend.get_result("failed"), KeyError)
    assert backend.get_traceback("failed") == "Traceback …"
    backend.mark_as_revoked("revoked", "not wanted")
    revoked = backend.get_result("revoked")
    assert (type(revoked), str(revoked)) == (TaskRevokedError, "not wanted")
    backend.mark_as_done("unkept", 1, store_result=False)
    backend.mark_as_failure("unkept", ValueError(), store_result=False)
    assert backend.get_state("unkept") == states.PENDING
    with pytest.raises(TypeError, match="must be an exception"):
        backend.store_result("wrong", {"done": 1}, states.FAILURE)


@only_redis
def test_a_run_is_kept_as_the_run_keeps_it(backend: Backend, store: ResultBackend) -> None:
    request = Request(id="a", task="names.add", attempt=5, parent_id="p", group="g", hostname="w@h")
    with settings.override(RESULT_EXTENDED=True):
        backend.store_result("a", 3, states.SUCCESS, request=request)
    meta = backend.get_task_meta("a")
    told = {name: meta[name] for name in ("parent_id", "group_id", "name", "worker")}
    assert told == {"parent_id": "p", "group_id": "g", "name": "names.add", "worker": "w@h"}


def test_who_waits_is_given_the_end(shared_store: ResultBackend) -> None:
    backend = Backend(shared_store)
    result: AsyncResult[Any] = AsyncResult("a", backend)
    assert backend.add_pending_result(result) is result
    with pytest.raises(exceptions.TimeoutError):
        backend.wait_for("a", timeout=0.05)
    ended = threading.Thread(target=in_thread, args=(lambda: backend.mark_as_done("a", 7),))
    ended.start()
    assert backend.wait_for("a", timeout=20)["result"] == 7
    ended.join()
    assert backend.wait_for_pending(result, timeout=20) == 7
    assert dict(backend.iter_native(GroupResult("g", [result])))["a"]["result"] == 7


def test_what_is_remembered_is_asked_for_again_on_demand(backend: Backend, store: ResultBackend) -> None:
    with settings.override(RESULT_CACHE_MAX=10):
        backend.mark_as_done("a", 1)
        assert backend.get_result("a") == 1
        store.forget_many(["a"])
        assert backend.get_result("a") == 1
        assert backend.get_task_meta("a", cache=False)["status"] == states.PENDING
        backend.reload_task_result("a")
        assert backend.get_state("a") == states.PENDING


def test_groups_are_kept_as_their_handles(backend: Backend) -> None:
    group = GroupResult("g", [AsyncResult("a"), AsyncResult("b")])
    try:
        backend.save_group("g", group)
    except NotImplementedError:
        assert "rpc" in backend.as_uri()
        return
    assert backend.restore_group("g") == group
    assert backend.get_group_meta("g")["result"] == group
    assert GroupResult.restore("g", backend) == group
    backend.delete_group("g")
    assert backend.restore_group("g") is None
    assert backend.get_group_meta("g") == {"status": "PENDING", "result": None}


def test_what_a_store_can_do_is_told(backend: Backend, store: ResultBackend) -> None:
    assert backend.supports_native_join
    assert backend.persistent is store.is_shared
    assert backend.supports_autoexpire is store.expires_by_itself
    assert backend.supports_failure_expires is store.parts_failures
    assert backend.supports_result_compression is store.compresses
    assert backend.as_uri() == store.as_uri()
    assert repr(backend) == f"<Backend: {store.as_uri()}>"
    if "rpc" not in store.as_uri():
        backend.ensure_chords_allowed()
    else:
        with pytest.raises(NotImplementedError):
            backend.ensure_chords_allowed()
    backend.on_task_call()
    assert isinstance(backend.cleanup(), int)
    backend.mark_as_done("a", 1)
    backend.process_cleanup()


def test_passwords_are_told_on_demand_only() -> None:
    with settings.override(RESULT_BACKEND="redis://:secret@127.0.0.1:1/0"):
        assert "secret" not in app.backend.as_uri()
        assert app.backend.as_uri(include_password=True) == "redis://:secret@127.0.0.1:1/0"
        with pytest.raises(BackendGetMetaError):
            app.backend.mark_as_done("a", 1)


def test_without_a_store_nothing_is_kept_and_reading_says_why() -> None:
    with settings.override(RESULT_BACKEND="disabled"):
        assert not app.backend.supports_native_join
        assert not app.backend.persistent
        with pytest.raises(NotImplementedError, match="RESULT_BACKEND"):
            app.backend.get_result("a")
        with pytest.raises(ImproperlyConfigured, match="RESULT_BACKEND"):
            app.backend.restore_group("g")


@pytest.mark.parametrize("given", [None, "", 7])
@pytest.mark.parametrize("verb", ["get_result", "forget", "mark_as_started"])
def test_an_id_that_is_none_is_refused(verb: str, given: Any) -> None:
    with pytest.raises(ValueError, match=f"the id given is {given!r}"):
        getattr(app.backend, verb)(given)


def test_a_group_is_kept_as_its_handle_only() -> None:
    members: Any = ["a", "b"]
    with pytest.raises(TypeError, match=r"not \['a', 'b'\]"):
        app.backend.save_group("g", members)


@only_redis
@pytest.mark.filterwarnings("ignore:Call to deprecated setex")
def test_celerys_own_backend_says_the_same(backend: Backend, celerys: Any) -> None:
    backend.mark_as_done("a", [1, {"b": None}])
    backend.mark_as_failure("failed", ValueError("no luck"), "Traceback …")
    celerys.mark_as_done("theirs", "done")
    backend.save_group("g", GroupResult("g", [AsyncResult("a"), AsyncResult("theirs")]))
    for task_id in ("a", "theirs"):
        for ask in ("get_state", "get_result", "get_traceback", "get_children"):
            assert getattr(backend, ask)(task_id) == getattr(celerys, ask)(task_id), (task_id, ask)
    assert repr(celerys.get_result("failed")) == repr(backend.get_result("failed"))
    assert [one.id for one in celerys.restore_group("g").results] == ["a", "theirs"]


@only_redis
def test_a_handle_by_this_name_asks_this_store(backend: Backend, store: ResultBackend) -> None:
    backend.mark_as_done("a", 1)
    handle: AsyncResult[Any] = AsyncResult("a", backend)
    assert handle.backend is store
    assert handle.get(timeout=5) == 1
