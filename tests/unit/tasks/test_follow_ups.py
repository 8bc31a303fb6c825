"""What follows a task travels with its outcome: links, chains, error callbacks, under ids that stay."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from djqueue import AsyncResult, Task, app, chain, shared_task, states
from djqueue.core.messages import WireMessage
from djqueue.core.protocol import read_body, read_headers
from djqueue.exceptions import TaskRevokedError, WorkerLostError
from djqueue.tasks import errbacks
from djqueue.tasks.abandonment import abandon
from djqueue.tasks.execution import perform
from djqueue.tasks.outcome import Outcome
from tests.support.in_process import NODE, DictStore, Inbox


class Expected(Exception):
    pass


@pytest.fixture
def add() -> Task[..., int]:
    @shared_task(name="follow.add")
    def add(x: int, y: int) -> int:
        return x + y

    return add


@pytest.fixture
def fail() -> Task[..., None]:
    @shared_task(name="follow.fail")
    def fail(*args: Any) -> None:
        raise Expected("as asked")

    return fail


def messages(outcome: Outcome) -> list[WireMessage]:
    return [outgoing.message for outgoing in outcome.follow_ups]


def test_a_link_gets_the_result_and_is_a_child(add: Task[..., int], inbox: Inbox) -> None:
    result = add.apply_async((1, 2), link=[add.s(10), add.si(0, 0)])
    first, second = messages(inbox.run())
    assert read_body(first)[0] == [3, 10]
    assert read_body(second)[0] == [0, 0]
    assert first.headers["parent_id"] == first.headers["root_id"] == result.id
    assert list(map(str, result.children or ())) == [first.headers["id"], second.headers["id"]]
    inbox.run_all()
    assert AsyncResult(first.headers["id"]).get(timeout=1) == 13


def test_running_again_gives_the_same_ids_and_bodies(add: Task[..., int], inbox: Inbox) -> None:
    add.apply_async((1, 2), link=[add.s(1), add.s(1), add.s(1) | add.s(2)])
    message = inbox.next().message
    once, twice = (
        [(one.headers["id"], one.headers["root_id"], one.body) for one in messages(perform(message))]
        for _ in range(2)
    )
    assert once == twice
    assert len({task_id for task_id, *_ in once}) == 3


def test_a_chain_runs_to_its_end(add: Task[..., int], inbox: Inbox) -> None:
    last = chain(add.s(1, 1), add.s(2), add.s(3)).delay()
    outcomes = inbox.run_all()
    assert [outcome.summary for outcome in outcomes] == ["2", "4", "7"]
    assert last.get(timeout=1) == 7
    assert last.parent is not None
    assert last.parent.get(timeout=1) == 4
    roots = [outcome.document.root_id for outcome in outcomes if outcome.document]
    parents = [outcome.document.parent_id for outcome in outcomes if outcome.document]
    assert roots == [last.root.id] * 3
    assert parents == [None, last.root.id, last.parent.id]


def test_a_linked_chain_is_a_chain(add: Task[..., int], inbox: Inbox) -> None:
    add.apply_async((1, 1), link=chain(add.s(2), add.s(3)))
    assert [outcome.summary for outcome in inbox.run_all()] == ["2", "4", "7"]


def test_a_task_that_fails_ends_its_chain_for_every_later_task(
    add: Task[..., int], fail: Task[..., None], inbox: Inbox
) -> None:
    last = chain(add.s(1, 1), fail.s(), add.s(2), add.s(3)).delay()
    assert [outcome.state for outcome in inbox.run_all()] == [states.SUCCESS, states.FAILURE]
    with pytest.raises(Expected):
        AsyncResult(last.id).get(timeout=1)
    assert last.parent is not None
    assert last.parent.state == states.FAILURE
    assert AsyncResult(last.id).name == "follow.add"
    with pytest.raises(Expected):
        last.get(timeout=1)


def test_what_follows_may_be_unknown_here_and_options_of_others_are_left_out(
    add: Task[..., int], inbox: Inbox
) -> None:
    foreign = {
        "task": "elsewhere.task",
        "args": None,
        "kwargs": None,
        "options": {"queue": "elsewhere", "producer_pool_timeout": 3, "stamped_headers": ["s"], "s": 1},
        "subtask_type": None,
        "immutable": False,
    }
    add.apply_async((1, 2), link=[foreign])
    (message,) = messages(inbox.run())
    assert message.headers["task"] == "elsewhere.task"
    assert message.headers["stamps"] == {"s": 1}
    assert read_body(message)[0] == [3]
    assert len(Inbox("elsewhere").receive()) == 1


def test_a_follow_up_that_does_not_fit_fails_itself_and_not_its_parent(
    add: Task[..., int], inbox: Inbox
) -> None:
    add.apply_async((1, 2), link=add.s(1, 2, 3))
    assert [outcome.state for outcome in inbox.run_all()] == [states.SUCCESS, states.FAILURE]


def test_an_overridden_apply_async_holds_for_what_follows(add: Task[..., int], inbox: Inbox) -> None:
    class Tenant(Task[..., Any]):
        def apply_async(self, *args: Any, **options: Any) -> Any:
            headers = {**(options.pop("headers", None) or {}), "tenant": "acme"}
            return super().apply_async(*args, headers=headers, **options)

    @shared_task(name="follow.tenant", base=Tenant, bind=True)
    def tenant(self: Any, x: int) -> str:
        if not self.request.retries:
            raise self.retry(countdown=0)
        return f"{self.request.tenant} {x}"

    add.apply_async((1, 2), link=tenant.s())
    assert [outcome.summary for outcome in inbox.run_all()] == ["3", "Retry in 0s", "'acme 3'"]


def test_an_error_callback_with_one_argument_is_sent_the_id(fail: Task[..., None], inbox: Inbox) -> None:
    seen: list[str] = []
    callback = shared_task(name="follow.callback")(lambda task_id: seen.append(task_id))
    result = fail.apply_async(link_error=callback.s())
    outcomes = inbox.run_all()
    assert [outcome.state for outcome in outcomes] == [states.FAILURE, states.SUCCESS]
    assert outcomes[1].document is not None
    assert outcomes[1].document.parent_id == result.id
    assert seen == [result.id]
    assert list(map(str, result.children or ())) == [outcomes[1].document.task_id]


def test_an_error_callback_with_more_arguments_is_called_right_here(
    fail: Task[..., None], inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []

    @shared_task(name="follow.callback")
    def callback(request: Any, exc: BaseException, traceback: str, note: str = "") -> None:
        seen.append((request.id, exc, traceback.splitlines()[-1], note))

    @shared_task(name="follow.later")
    async def later(request: Any, exc: BaseException, traceback: str) -> None:
        seen.append("later")

    @shared_task(name="follow.broken")
    def broken(request: Any, exc: BaseException, traceback: str) -> None:
        raise ValueError("broken")

    result = fail.apply_async(link_error=[broken.s(), callback.s("noted"), later.s()])
    with caplog.at_level(logging.ERROR, "djqueue.task"):
        outcome = inbox.run()
    assert outcome.follow_ups == []
    (task_id, exc, line, note), other = seen
    assert (task_id, type(exc), note, other) == (result.id, Expected, "noted", "later")
    assert line.endswith("Expected: as asked")
    assert "Error callback follow.broken" in caplog.text


def test_a_bound_an_unknown_and_a_class_based_error_callback_are_sent(
    fail: Task[..., None], inbox: Inbox
) -> None:
    bound = shared_task(name="follow.bound", bind=True)(lambda self, a, b, c: None)

    class Based(Task[..., Any]):
        name = "follow.based"

        def run(self, a: Any, b: Any, c: Any) -> None: ...

    app.register_task(Based)
    fail.apply_async(link_error=[bound.s(), app.signature("elsewhere.task"), app.signature("follow.based")])
    sent = messages(inbox.run())
    assert [message.headers["task"] for message in sent] == ["follow.bound", "elsewhere.task", "follow.based"]
    assert len({message.headers["id"] for message in sent}) == 3


def test_retries_call_no_error_callbacks_until_the_last(inbox: Inbox) -> None:
    seen: list[int] = []
    callback = shared_task(name="follow.callback")(
        lambda request, exc, traceback: seen.append(request.retries)
    )

    @shared_task(name="follow.auto", autoretry_for=(Expected,), max_retries=1, default_retry_delay=0)
    def auto() -> None:
        raise Expected

    auto.apply_async(link_error=callback.s())
    inbox.run_all()
    assert seen == [1]


def test_a_task_that_is_given_up_tells_its_callbacks_without_running_them_here(
    add: Task[..., int], inbox: Inbox, store: DictStore
) -> None:
    seen: list[Any] = []

    @shared_task(name="follow.callback")
    def callback(request: Any, exc: BaseException, traceback: str | None) -> None:
        seen.append((request.id, exc, traceback))

    one = shared_task(name="follow.one")(lambda task_id: seen.append(task_id))
    last = (add.s(1, 1).on_error(callback.s()).on_error(one.s()) | add.s(3)).delay()
    first = last.root
    delivery = inbox.next()
    request = read_headers(delivery.message, delivery.delivery_info(), 2)
    outcome = abandon(request, delivery.message, WorkerLostError("gone"), worker=NODE)
    assert seen == []
    assert [message.headers["task"] for message in messages(outcome)] == [errbacks.CALL_ERRBACK, "follow.one"]
    assert outcome.document is not None
    assert (outcome.document.task_id, outcome.document.worker) == (first.id, NODE)
    assert outcome.document.attempt == request.attempt
    assert [document.task_id for document in outcome.never_run] == [last.id]
    store.store_many([outcome.document, *outcome.never_run])
    for message in messages(outcome):
        assert perform(message).state == states.SUCCESS
    (task_id, exc, traceback), other = seen
    assert (task_id, type(exc), traceback, other) == (first.id, WorkerLostError, None, first.id)
    with pytest.raises(WorkerLostError, match="gone"):
        last.get(timeout=1)


def test_a_revoked_task_tells_nobody(add: Task[..., int], inbox: Inbox) -> None:
    (add.s(1, 1).on_error(add.s(1)) | add.s(3)).delay()
    delivery = inbox.next()
    request = read_headers(delivery.message, delivery.delivery_info())
    outcome = abandon(
        request, delivery.message, TaskRevokedError("expired"), state=states.REVOKED, worker=NODE
    )
    assert not outcome.follow_ups
    assert not outcome.never_run
    assert outcome.document is not None
    assert outcome.document.status == states.REVOKED


def test_a_given_up_task_whose_body_cannot_be_read_has_a_result_all_the_same(
    add: Task[..., int], inbox: Inbox
) -> None:
    add.delay(1, 2)
    delivery = inbox.next()
    delivery.message.body = b"\xff"
    outcome = abandon(read_headers(delivery.message), delivery.message, WorkerLostError("gone"))
    assert outcome.document is not None
    assert outcome.follow_ups == []


def test_giving_up_a_task_that_ignores_its_result_stores_nothing(add: Task[..., int], inbox: Inbox) -> None:
    add.apply_async((1, 2), ignore_result=True)
    message = inbox.next().message
    assert abandon(read_headers(message), message, WorkerLostError("gone")).document is None
    add.store_errors_even_if_ignored = True
    assert abandon(read_headers(message), message, WorkerLostError("gone")).document is not None


def test_cleaning_up_is_a_task_in_every_registry(inbox: Inbox, store: DictStore, add: Task[..., int]) -> None:
    add.delay(1, 2)
    inbox.run()
    app.send_task("celery.backend_cleanup")
    assert inbox.run().state == states.SUCCESS
    assert store.documents == {}
