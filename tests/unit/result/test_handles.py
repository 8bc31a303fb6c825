"""Handles: asking, waiting, relatives, and what they are as values."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

from djqueue import AsyncResult, EagerResult, allow_join_result, exceptions, result_from_tuple, states
from djqueue.core.requests import Request, running
from djqueue.exceptions import NotSentYet, TaskRevokedError
from djqueue.messaging.departures import Departure
from djqueue.result.documents import Document, encode_exception, encode_value
from tests.support.in_process import STORE, DictStore
from tests.support.waiting import wait_until


class Expected(Exception):
    pass


@pytest.fixture
def keep(store: DictStore) -> Callable[..., AsyncResult[Any]]:
    def keep(task_id: str, status: str, value: Any = None, **fields: Any) -> AsyncResult[Any]:
        encoded = encode_exception(value) if isinstance(value, BaseException) else encode_value(value)
        store.documents[task_id] = Document(task_id, status, *encoded, **fields)
        return AsyncResult(task_id)

    return keep


Keep = Callable[..., AsyncResult[Any]]


def test_nothing_is_known_of_an_unknown_id() -> None:
    result: AsyncResult[Any] = AsyncResult("unknown")
    assert (result.state, result.status, result.result, result.info) == ("PENDING", "PENDING", None, None)
    assert (result.traceback, result.date_done, result.children, result.worker) == (None, None, None, None)
    assert [result.ready(), result.successful(), result.failed(), result.exists()] == [False] * 4
    assert result.maybe_throw() is None
    with pytest.raises(ValueError, match="the id given is ''"):
        AsyncResult("")


def test_a_success_has_its_result_and_all_that_was_kept(keep: Keep) -> None:
    result = keep(
        "t",
        states.SUCCESS,
        [1],
        date_done=1.0,
        name="add",
        args="(1,)",
        kwargs="{}",
        worker="w@h",
        queue="q",
        retries=2,
    )
    assert result.get(timeout=1) == result.wait(timeout=1) == result.result == [1]
    assert result.ready()
    assert result.successful()
    assert not result.failed()
    assert result.exists()
    assert (result.name, result.args, result.kwargs, result.worker) == ("add", "(1,)", "{}", "w@h")
    assert (result.queue, result.retries) == ("q", 2)
    assert result.date_done is not None
    assert result.date_done.timestamp() == 1.0


def test_a_failure_is_raised_or_returned(keep: Keep) -> None:
    result = keep("t", states.FAILURE, Expected("why"), traceback="as text")
    with pytest.raises(Expected, match="why"):
        result.get(timeout=1)
    with pytest.raises(Expected):
        result.maybe_reraise()
    assert isinstance(result.get(timeout=1, propagate=False), Expected)
    assert (result.failed(), result.traceback) == (True, "as text")
    with pytest.raises(TaskRevokedError):
        keep("r", states.REVOKED, TaskRevokedError("revoked")).get(timeout=1)


def test_a_terminal_state_is_remembered_others_are_read_anew(keep: Keep, store: DictStore) -> None:
    result = keep("t", "PROGRESS", {"done": 1})
    assert (result.state, result.info) == ("PROGRESS", {"done": 1})
    keep("t", states.SUCCESS, 1)
    assert result.state == states.SUCCESS
    store.documents.clear()
    assert result.get(timeout=1) == 1


def test_waiting_ends_when_the_task_does(keep: Keep) -> None:
    result: AsyncResult[int] = AsyncResult("t")
    threading.Timer(0.05, keep, ("t", states.SUCCESS, 7)).start()
    assert result.get(timeout=10) == 7


def test_waiting_ends_with_the_time() -> None:
    with pytest.raises(TimeoutError, match="The operation timed out: task t was not ready"):
        AsyncResult("t").get(timeout=0.02)
    with pytest.raises(exceptions.TimeoutError):
        asyncio.run(AsyncResult("t").aget(timeout=0.02))


def test_callbacks_are_called_while_waiting_and_in_the_end(keep: Keep) -> None:
    rounds: list[int] = []
    ends: list[Any] = []

    def on_interval() -> None:
        rounds.append(1)
        if len(rounds) == 3:
            keep("t", states.SUCCESS, 7)

    result: AsyncResult[int] = AsyncResult("t")
    result.get(timeout=10, interval=0.01, on_interval=on_interval, callback=lambda *end: ends.append(end))
    assert (len(rounds), ends) == (3, [("t", 7)])


def test_a_coroutine_waits_without_blocking(keep: Keep) -> None:
    async def wait() -> Any:
        result: AsyncResult[int] = AsyncResult("t")
        waiting = asyncio.ensure_future(result.aget(timeout=10, interval=0.005))
        done, _ = await asyncio.wait({waiting}, timeout=0.02)
        assert not done
        keep("t", states.SUCCESS, 7)
        return await waiting

    assert asyncio.run(wait()) == 7
    with pytest.raises(Expected):
        asyncio.run(keep("f", states.FAILURE, Expected()).aget(timeout=1))


def test_the_failure_of_a_parent_ends_the_waiting(keep: Keep) -> None:
    first: AsyncResult[Any] = AsyncResult("first")
    last: AsyncResult[Any] = AsyncResult("last", parent=AsyncResult("middle", parent=first))
    with pytest.raises(exceptions.TimeoutError):
        last.get(timeout=0.02)
    keep("first", states.FAILURE, Expected("early"))
    with pytest.raises(Expected, match="early"):
        last.get(timeout=10)
    with pytest.raises(Expected, match="early"):
        asyncio.run(last.aget(timeout=10))
    with pytest.raises(exceptions.TimeoutError):
        last.get(timeout=0.02, follow_parents=False)
    with pytest.raises(exceptions.TimeoutError):
        last.get(timeout=0.02, propagate=False)


def test_an_ignored_result_is_none_at_once() -> None:
    ignored: AsyncResult[Any] = AsyncResult("t", ignored=True)
    assert ignored.get() is None
    assert asyncio.run(ignored.aget()) is None


def test_waiting_inside_a_task_is_refused_unless_allowed(keep: Keep) -> None:
    result = keep("t", states.SUCCESS, 7)
    request = Request(id="o", task="outer", called_directly=False)
    with running(request):
        with pytest.raises(RuntimeError, match="inside the task outer"):
            result.get(timeout=1)
        with (
            running(Request(task="inner", called_directly=True, enclosing=request)),
            pytest.raises(RuntimeError),
        ):
            result.get(timeout=1)
        eager = Request(id="e", task="inner", is_eager=True, called_directly=False, enclosing=request)
        with running(eager), pytest.raises(RuntimeError):
            result.get(timeout=1)
        assert result.get(timeout=1, disable_sync_subtasks=False) == 7
        with allow_join_result():
            assert result.get(timeout=1) == 7
        with pytest.raises(RuntimeError):
            asyncio.run(result.aget(timeout=1))
    with running(Request(id="e", task="outer", is_eager=True, called_directly=False)):
        assert result.get(timeout=1) == 7
    with allow_join_result():
        assert result.get(timeout=1) == 7


def test_what_was_not_sent_is_pending_and_not_waited_for(keep: Keep) -> None:
    keep("t", states.SUCCESS, 7)
    departure = Departure([])
    result: AsyncResult[int] = AsyncResult("t", departure=departure)
    assert result.state == states.PENDING
    with pytest.raises(NotSentYet, match="Task t cannot have a result: its message is sent when"):
        result.get(timeout=1)
    follower: AsyncResult[int] = AsyncResult("f")
    follower.leaves_with(departure)
    assert follower.state == states.PENDING
    departure.mark_sent()
    assert result.get(timeout=1) == 7


def test_forgetting_deletes_the_task_and_its_parents(keep: Keep, store: DictStore) -> None:
    parent = keep("p", states.SUCCESS, 1)
    child: AsyncResult[Any] = AsyncResult("t", parent=parent)
    keep("t", states.SUCCESS, 2)
    assert (parent.state, child.state) == (states.SUCCESS, states.SUCCESS)
    child.forget()
    assert store.documents == {}
    assert (parent.state, child.state) == (states.PENDING, states.PENDING)


def test_children_are_handles_groups_among_them(keep: Keep) -> None:
    children = [
        [["a", None], None],
        [["b", [["p", None], None]], None],
        [["g", None], [[["m1", None], None], [["m2", None], None]]],
        ["c", None],
    ]
    found = keep("t", states.SUCCESS, children=children).children
    assert found is not None
    assert [child.id for child in found] == ["a", "b", "g", "c"]
    assert [member.id for member in found[2]] == ["m1", "m2"]
    assert found[1].parent == "p"


def test_a_handle_is_described_by_builtins_and_made_from_them() -> None:
    handle: AsyncResult[Any] = AsyncResult("t", parent=AsyncResult("p", parent=AsyncResult("r")))
    described = handle.as_tuple()
    assert described == (("t", (("p", (("r", None), None)), None)), None)
    made = result_from_tuple(described)
    assert made.as_list() == handle.as_list() == ["t", "p", "r"]
    assert made.root == "r"
    assert result_from_tuple(made) is made
    assert result_from_tuple(["t", None]) == handle
    group = result_from_tuple([["g", ["p", None]], [["m", None]]])
    assert (group.id, group.parent, group.results) == ("g", "p", [AsyncResult("m")])


def test_handles_are_values() -> None:
    handle: AsyncResult[Any] = AsyncResult("t", task_name="add", parent=AsyncResult("p"))
    assert handle == AsyncResult("t") == "t"
    assert handle != AsyncResult("other")
    assert handle != 5
    assert {handle: 1}[AsyncResult("t")] == 1
    assert (str(handle), repr(handle), handle.task_id) == ("t", "<AsyncResult: t>", "t")
    copy = pickle.loads(pickle.dumps(handle))
    assert (copy, copy.name, copy.parent) == (handle, "add", "p")


def test_a_handle_may_read_from_a_store_of_its_own(keep: Keep, store: DictStore) -> None:
    other = DictStore("other")
    other.documents["t"] = Document("t", states.SUCCESS, "5")
    assert AsyncResult("t", backend=other).get(timeout=1) == 5
    keep("t", states.SUCCESS, 6)
    by_name: AsyncResult[int] = AsyncResult("t", backend=STORE)
    assert by_name.backend is store
    assert pickle.loads(pickle.dumps(by_name)).get(timeout=1) == 6


def test_an_eager_handle_reads_like_any_other() -> None:
    good: EagerResult[int] = EagerResult("t", 7, states.SUCCESS, name="add")
    assert (good.get(), good.wait(), good.result, good.info, good.state, good.status) == (
        *(7, 7, 7, 7, "SUCCESS", "SUCCESS"),
    )
    assert (good.ready(), good.exists(), good.successful(), good.name, good.children) == (
        *(True, True, True, "add", []),
    )
    assert (good.date_done, good.args, good.traceback) == (None, None, None)
    good.forget()
    assert asyncio.run(good.aget()) == 7
    ends: list[Any] = []
    good.get(callback=lambda *end: ends.append(end))
    assert ends == [("t", 7)]
    bad: EagerResult[int] = EagerResult("t", Expected("x"), states.FAILURE, "text")
    with pytest.raises(Expected):
        bad.get()
    assert isinstance(bad.get(propagate=False), Expected)
    assert (bad.traceback, bad.failed()) == ("text", True)
    assert repr(bad) == "<EagerResult: t FAILURE>"
    assert pickle.loads(pickle.dumps(good)).get() == 7


def test_many_threads_may_wait_for_one_task(keep: Keep) -> None:
    got: list[int] = []
    threads = [
        threading.Thread(target=lambda: got.append(AsyncResult[int]("t").get(timeout=10))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    keep("t", states.SUCCESS, 7)
    wait_until(lambda: len(got) == 5, 10, "every waiting thread gets the result")
