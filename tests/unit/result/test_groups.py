"""Handles of several tasks: asking and waiting for all of them at once, and keeping a group."""

from __future__ import annotations

import asyncio
import pickle
import threading
from typing import Any

import pytest

from djqueue import AsyncResult, EagerResult, GroupResult, ResultSet, result_from_tuple, states
from djqueue.core.requests import Request, running
from djqueue.exceptions import TimeoutError as TimedOut
from djqueue.result import backends
from djqueue.result.documents import Document, encode_exception, encode_value
from tests.support.in_process import DictStore


class Broken(Exception):
    """A task ended with this one."""


def keep(task_id: str, value: Any = None, state: str = states.SUCCESS) -> None:
    encoded = encode_exception(value) if isinstance(value, BaseException) else encode_value(value)
    backends.backend().store_many([Document(task_id, state, *encoded)])


def results(*ids: str) -> list[AsyncResult[Any]]:
    return [AsyncResult(one) for one in ids]


def test_a_set_is_a_list_without_doubles() -> None:
    made = ResultSet(results("a", "b"))
    made.add(AsyncResult("a"))
    made.add(AsyncResult("c"))
    made.update(results("c", "d"))
    assert ([str(one) for one in made], len(made), made[0]) == (["a", "b", "c", "d"], 4, "a")
    made.remove("a")
    made.discard("a")
    made.discard(AsyncResult("b"))
    with pytest.raises(KeyError):
        made.remove("a")
    assert made == ResultSet(results("c", "d"))
    assert repr(made) == "<ResultSet: [c, d]>"
    made.clear()
    assert len(made) == 0


def test_what_is_known_of_all_is_asked_in_one_go(store: DictStore, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    fetch_many = store.fetch_many
    monkeypatch.setattr(store, "fetch_many", lambda ids: asked.append(list(ids)) or fetch_many(ids))
    made = GroupResult("g", [*results("a", "b"), GroupResult("inner", results("c"))])
    assert (made.ready(), made.waiting(), made.successful(), made.failed()) == (False, True, False, False)
    keep("a", 1)
    keep("b", Broken("b"), states.FAILURE)
    asked.clear()
    assert made.failed()
    assert asked == [["a", "b", "c"]]
    keep("c", 3)
    assert (made.ready(), made.completed_count(), made.successful()) == (True, 2, False)
    with pytest.raises(Broken):
        made.maybe_throw()


def test_results_come_in_order_and_groups_among_them_as_lists() -> None:
    made = GroupResult("g", [*results("a"), GroupResult("inner", results("b", "c")), *results("d")])
    for task_id in "dcba":
        keep(task_id, task_id)
    assert (
        made.get(timeout=1) == made.join(timeout=1) == made.join_native(timeout=1) == ["a", ["b", "c"], "d"]
    )
    heard: list[Any] = []
    assert made.get(timeout=1, callback=lambda task_id, value: heard.append((task_id, value))) == []
    assert heard == [("a", "a"), ("inner", ["b", "c"]), ("d", "d")]
    assert asyncio.run(made.aget(timeout=1)) == ["a", ["b", "c"], "d"]


def test_the_first_exception_is_raised_while_others_are_still_waited_for() -> None:
    made = GroupResult("g", results("a", "b", "c"))
    keep("b", Broken("b"), states.FAILURE)
    with pytest.raises(Broken):
        made.get(timeout=5)
    with pytest.raises(Broken):
        asyncio.run(made.aget(timeout=5))
    keep("a", 1)
    keep("c", 3)
    one, broken, three = made.get(timeout=1, propagate=False)
    assert (one, type(broken), three) == (1, Broken, 3)


def test_waiting_ends_when_the_last_one_does() -> None:
    made = GroupResult("g", results("a", "b"))
    keep("a", 1)
    later = threading.Timer(0.1, keep, ["b", 2])
    later.start()
    assert made.get(timeout=10) == [1, 2]
    later.join()


def test_waiting_for_too_long_is_told() -> None:
    made = GroupResult("g", results("a", "b"))
    keep("a", 1)
    looks: list[int] = []
    for wait in (
        lambda: made.get(timeout=0.1, on_interval=lambda: looks.append(1)),
        lambda: asyncio.run(made.aget(timeout=0.1)),
        lambda: list(made.iter_native(timeout=0.1)),
    ):
        with pytest.raises(TimedOut, match=r"1 of 2 tasks were not ready after 0\.1 seconds\. The first is"):
            wait()
    assert looks


def test_ends_are_told_as_they_come() -> None:
    made = GroupResult("g", results("a", "b"))
    keep("b", 2)
    told = made.iter_native(timeout=10)
    assert next(told)[0] == "b"
    keep("a", Broken("x"), states.FAILURE)
    task_id, meta = next(told)
    assert (task_id, meta["status"], type(meta["result"])) == ("a", states.FAILURE, Broken)
    assert list(told) == []


def test_waiting_inside_a_task_is_refused() -> None:
    made = GroupResult("g", results("a"))
    keep("a", 1)
    with running(Request(id="outer", task="outer", called_directly=False)):
        with pytest.raises(RuntimeError, match="inside the task outer"):
            made.get(timeout=1)
        assert made.get(timeout=1, disable_sync_subtasks=False) == [1]


def test_results_that_nobody_keeps_are_none_at_once() -> None:
    made = GroupResult("g", [AsyncResult("a", ignored=True), EagerResult("b", 2, states.SUCCESS)])
    assert made.get(timeout=1) == [None, 2]


def test_an_empty_group_is_ready() -> None:
    made = GroupResult("g", [])
    assert (made.ready(), made.successful(), made.failed(), made.get()) == (True, True, False, [])
    assert bool(made)
    assert not GroupResult()


def test_a_group_is_kept_and_found_again() -> None:
    made = GroupResult("g", [*results("a"), GroupResult("inner", results("b"))], AsyncResult("p"))
    made.save()
    restored = GroupResult.restore("g")
    assert restored == made
    assert restored is not None
    assert (
        restored.as_tuple()
        == made.as_tuple()
        == (
            ("g", (("p", None), None)),
            [
                (("a", None), None),
                (("inner", None), [(("b", None), None)]),
            ],
        )
    )
    assert (restored.parent, restored.as_list(), restored.root) == ("p", ["g", "p"], "p")
    made.delete()
    assert GroupResult.restore("g") is None
    with pytest.raises(ValueError, match="without an id"):
        GroupResult(None, results("a")).save()


def test_forgetting_deletes_members_and_parents(store: DictStore) -> None:
    for task_id in "abp":
        keep(task_id, 1)
    GroupResult("g", results("a", "b"), AsyncResult("p")).forget()
    assert store.documents == {}


def test_groups_are_values() -> None:
    made = GroupResult("g", results("a"))
    assert made == GroupResult("g", results("a"), AsyncResult("p")) == "g"
    assert made != GroupResult("g", results("b"))
    assert hash(made) == hash("g")
    assert (str(made), repr(made)) == ("g", "<GroupResult: g [a]>")
    assert pickle.loads(pickle.dumps(made)) == made
    assert result_from_tuple(made) is made
    assert made.children == made.results


def test_an_error_in_a_header_is_raised_by_what_follows_it() -> None:
    keep("a", Broken("x"), states.FAILURE)
    body: AsyncResult[Any] = AsyncResult("body", parent=GroupResult("g", results("a", "b")))
    with pytest.raises(Broken):
        body.get(timeout=5)
