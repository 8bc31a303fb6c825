"""Running here and now: the same steps, nothing deferred, nothing sent."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, transaction

from djqueue import EagerResult, Task, chain, enqueue_many, shared_task, states
from djqueue.conf import settings
from djqueue.exceptions import EncodeError, Ignore
from tests.support.in_process import DictStore, Inbox


class Expected(Exception):
    pass


@pytest.fixture
def add() -> Task[..., int]:
    @shared_task(name="eager.add")
    def add(x: int, y: int) -> int:
        return x + y

    return add


@pytest.fixture
def fail() -> Task[..., None]:
    @shared_task(name="eager.fail")
    def fail(*args: Any) -> None:
        raise Expected("as asked")

    return fail


def test_apply_runs_the_task_and_returns_its_end(add: Task[..., int], inbox: Inbox, store: DictStore) -> None:
    result = add.apply((1, 2))
    assert isinstance(result, EagerResult)
    assert (result.state, result.get(), result.ready(), result.name) == ("SUCCESS", 3, True, "eager.add")
    assert inbox.receive() == []
    assert store.documents == {}


def test_a_failure_is_raised_when_asked_for_or_told_to(add: Task[..., int], fail: Task[..., None]) -> None:
    result = fail.apply()
    assert (result.state, result.failed()) == ("FAILURE", True)
    assert result.traceback is not None
    assert "as asked" in result.traceback
    with pytest.raises(Expected):
        result.get()
    assert isinstance(result.get(propagate=False), Expected)
    with pytest.raises(Expected):
        fail.apply(throw=True)
    with settings.override(TASK_EAGER_PROPAGATES=True), pytest.raises(Expected):
        fail.apply()


def test_always_eager_turns_every_way_of_sending_into_running(
    add: Task[..., int], inbox: Inbox, fail: Task[..., None]
) -> None:
    with settings.override(TASK_ALWAYS_EAGER=True):
        assert add.delay(1, 2).get() == 3
        assert add.apply_async((1, 2), countdown=60).get() == 3
        assert add.s(1, 2).delay().get() == 3
        assert chain(add.s(1, 2), add.s(3)).delay().get() == 6
        assert [one.get() for one in enqueue_many([add.s(1, 2), (add, (2, 2))])] == [3, 4]
        assert fail.delay().state == states.FAILURE
    assert inbox.receive() == []


def test_always_eager_shows_what_could_not_be_sent() -> None:
    @shared_task(name="eager.any")
    def kind(value: Any) -> str:
        return type(value).__name__

    with settings.override(TASK_ALWAYS_EAGER=True):
        assert kind.delay((1, 2)).get() == "list"
        with pytest.raises(EncodeError):
            kind.delay(object())
        with pytest.raises(TypeError, match="cannot be called like this"):
            kind.delay()  # type: ignore[call-arg]


def test_an_eager_request_says_so() -> None:
    @shared_task(name="eager.look", bind=True)
    def look(self: Task[..., Any], *args: Any) -> dict[str, Any]:
        request = self.request
        names = ("id", "is_eager", "called_directly", "retries", "tenant", "args", "root_id", "delivery_info")
        return {name: request.get(name) for name in names}

    seen = look.apply((1,), task_id="chosen", headers={"tenant": "acme"}, queue="q", priority=3).get()
    info = seen.pop("delivery_info")
    assert seen == {
        "id": "chosen",
        "is_eager": True,
        "called_directly": False,
        "retries": 0,
        "tenant": "acme",
        "args": (1,),
        "root_id": "chosen",
    }
    assert (info["is_eager"], info["priority"]) == (True, 3)


def test_retries_run_at_once_and_the_last_one_counts() -> None:
    tries: list[int] = []

    @shared_task(name="eager.retry", bind=True, max_retries=2)
    def retry(self: Task[..., Any], good_at: int) -> str:
        tries.append(self.request.retries)
        if self.request.retries < good_at:
            raise self.retry(exc=Expected(), countdown=600)
        return "good"

    assert retry.apply((2,)).get() == "good"
    assert tries == [0, 1, 2]
    result = retry.apply((3,))
    assert (result.state, type(result.result)) == (states.FAILURE, Expected)
    with pytest.raises(Expected):
        retry.apply((3,), throw=True)


def test_a_retry_that_is_not_thrown_runs_too() -> None:
    tries: list[int] = []

    @shared_task(name="eager.quiet", bind=True)
    def quiet(self: Task[..., Any]) -> int:
        tries.append(self.request.retries)
        if not self.request.retries:
            self.retry(throw=False)
        return len(tries)

    assert quiet.apply().get() == 1
    assert tries == [0, 1]


def test_links_and_error_callbacks_run_at_once(
    add: Task[..., int], fail: Task[..., None], inbox: Inbox
) -> None:
    seen: list[Any] = []
    note = shared_task(name="eager.note")(lambda value: seen.append(value))
    told = shared_task(name="eager.told")(lambda request, exc, traceback: seen.append(type(exc)))
    result = add.apply((1, 2), link=[note.s(), fail.s()])
    assert result.state == states.SUCCESS
    assert [child.state for child in result.children] == [states.SUCCESS, states.FAILURE]
    failed = fail.apply(link_error=[told.s(), note.s()])
    assert seen == [3, Expected, failed.id]
    assert inbox.receive() == []


def test_a_chain_stops_at_what_does_not_return(add: Task[..., int], fail: Task[..., None]) -> None:
    result = chain(add.s(1, 1), add.s(2), add.s(3)).apply()
    assert result.get() == 7
    assert result.parent is not None
    assert result.root.get() == 2
    stopped = chain(fail.s(), add.s(2), add.s(3)).apply()
    assert (stopped.state, type(stopped.result)) == (states.FAILURE, Expected)
    assert stopped.parent is not None

    @shared_task(name="eager.ignore")
    def ignore() -> None:
        raise Ignore

    assert chain(ignore.s(), add.s(2)).apply().state == states.IGNORED


def test_a_task_inside_a_task_may_be_waited_for_when_it_is_eager(add: Task[..., int]) -> None:
    @shared_task(name="eager.outer")
    def outer() -> int:
        return add.delay(1, 2).get()

    with settings.override(TASK_ALWAYS_EAGER=True):
        result = outer.delay()
    assert result.get() == 3
    assert len(result.children or ()) == 1


def test_eager_results_are_stored_when_asked_for(store: DictStore) -> None:
    @shared_task(name="eager.stored", store_eager_result=True, bind=True)
    def stored(self: Task[..., Any]) -> int:
        self.update_state(state="PROGRESS", meta=1)
        assert store.documents[self.request.id].status == "PROGRESS"
        return 7

    result = stored.apply()
    assert store.documents[result.id].value() == 7


def test_a_coroutine_runs_eagerly_as_well() -> None:
    @shared_task(name="eager.later")
    async def later(x: int) -> int:
        return x

    assert later.apply((4,)).get() == 4


@pytest.mark.django_db(transaction=True)
def test_an_eager_task_runs_inside_the_transaction_and_closes_no_connection() -> None:
    @shared_task(name="eager.inside")
    def inside() -> bool:
        return connection.in_atomic_block

    with settings.override(TASK_ALWAYS_EAGER=True), transaction.atomic():
        before = connection.connection
        assert inside.delay().get() is True
        assert connection.connection is before
