"""Calling a task: what is checked, what is sent where, and what the caller holds afterwards."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction

from djqueue import AsyncResult, Task, app, enqueue_many, shared_task, signals
from djqueue.conf import settings
from djqueue.core.protocol import read_body
from djqueue.core.registry import Registry
from djqueue.exceptions import AlwaysEagerIgnored, EncodeError, NotSentYet
from tests.support.in_process import Inbox


@pytest.fixture
def add() -> Task[[int, int], int]:
    @shared_task(name="calling.add")
    def add(x: int, y: int) -> int:
        return x + y

    return add


def headers(inbox: Inbox) -> dict[str, Any]:
    return inbox.next().message.headers


def test_delay_sends_the_arguments_and_returns_a_handle(add: Task[..., int], inbox: Inbox) -> None:
    result = add.delay(1, y=2)
    delivery = inbox.next()
    assert isinstance(result, AsyncResult)
    assert delivery.message.headers["id"] == result.id
    assert delivery.message.headers["task"] == "calling.add"
    assert delivery.message.headers["ignore_result"] is False
    assert read_body(delivery.message)[:2] == ([1], {"y": 2})
    assert result.name == "calling.add"


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((1,), {}), ((1, 2, 3), {}), ((1,), {"z": 2}), ((1, 2), {"y": 2}), ((), {})],
    ids=repr,
)
def test_arguments_that_do_not_fit_are_refused_before_anything_is_sent(
    add: Task[..., int], inbox: Inbox, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    with pytest.raises(TypeError, match=r"calling\.add\(x: 'int', y: 'int'\).* cannot be called like this"):
        add.delay(*args, **kwargs)
    assert inbox.receive() == []


def test_every_shape_of_signature_is_checked(inbox: Inbox) -> None:
    @shared_task(name="calling.shapes")
    def shapes(a: int, /, b: int = 2, *rest: int, key: str, **more: int) -> None: ...

    shapes.delay(1, key="k")
    shapes.delay(1, 2, 3, 4, key="k", other=1)
    wrong: list[tuple[Any, dict[str, Any]]] = [((1,), {}), ((), {"key": "k"}), ((), {"a": 1, "key": "k"})]
    for args, kwargs in wrong:
        with pytest.raises(TypeError, match="cannot be called like this"):
            shapes.delay(*args, **kwargs)
    assert len(inbox.receive()) == 2


def test_typing_may_be_switched_off(inbox: Inbox) -> None:
    @shared_task(name="calling.loose", typing=False)
    def loose() -> None: ...

    loose.delay(1, 2, 3)  # type: ignore[call-arg]
    assert len(inbox.receive()) == 1


def test_what_is_no_list_of_arguments_is_refused(add: Task[..., int]) -> None:
    with pytest.raises(TypeError, match="must be a list or tuple"):
        add.apply_async("ab")
    with pytest.raises(TypeError, match="must be a mapping"):
        add.apply_async((1, 2), kwargs=[1])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Did you mean 'countdown'"):
        add.apply_async((1, 2), cuntdown=3)


def test_what_cannot_be_written_is_refused(inbox: Inbox) -> None:
    @shared_task(name="calling.any")
    def anything(value: Any) -> None: ...

    with pytest.raises(EncodeError, match="object"):
        anything.delay(object())
    assert inbox.receive() == []


def test_options_of_the_task_hold_unless_the_call_says_otherwise() -> None:
    @shared_task(name="calling.slow", queue="slow", priority=3, expires=60, time_limit=30, soft_time_limit=20)
    def slow() -> None: ...

    slow.delay()
    slow.apply_async(queue="other", priority=5, expires=None, time_limit=9)
    first = Inbox("slow").next().message
    assert first.headers["timelimit"] == [30, 20]
    assert first.headers["expires"] is not None
    assert first.properties["priority"] == 3
    second = Inbox("other").next().message
    assert second.headers["timelimit"] == [9, 20]
    assert second.headers["expires"] is None
    assert second.properties["priority"] == 5


def test_routes_decide_where_nothing_else_is_said(add: Task[..., int]) -> None:
    with settings.override(TASK_ROUTES={"calling.*": {"queue": "routed"}}, TASK_DEFAULT_QUEUE="main"):
        add.delay(1, 2)
        add.apply_async((1, 2), queue="named")
        app.send_task("elsewhere.task")
    assert (
        len(Inbox("routed").receive()) == len(Inbox("named").receive()) == len(Inbox("main").receive()) == 1
    )


def test_a_call_for_later_waits_in_the_broker(add: Task[..., int], inbox: Inbox) -> None:
    add.apply_async((1, 2), countdown=60)
    add.apply_async((1, 2), eta=datetime.now(UTC) + timedelta(hours=1))
    assert inbox.receive() == []
    add.apply_async((1, 2), countdown=0)
    assert headers(inbox)["eta"] is None


def test_a_task_is_sent_by_name_with_what_is_declared_here(add: Task[..., int], inbox: Inbox) -> None:
    add.queue = "declared"
    result = app.send_task("calling.add", args=[1, 2], task_id="chosen", shadow="sum")
    message = Inbox("declared").next().message
    assert (result.id, message.headers["id"], message.headers["shadow"]) == ("chosen", "chosen", "sum")
    app.send_task("nobody.knows", kwargs={"a": 1})
    sent = inbox.next().message
    assert sent.headers["ignore_result"] is None
    assert read_body(sent)[:2] == ([], {"a": 1})


def test_sending_by_name_is_never_eager(inbox: Inbox) -> None:
    with settings.override(TASK_ALWAYS_EAGER=True), pytest.warns(AlwaysEagerIgnored):
        app.send_task("nobody.knows")
    assert len(inbox.receive()) == 1


def test_a_call_inside_a_task_knows_its_root_and_parent_and_is_a_child(
    add: Task[..., int], inbox: Inbox
) -> None:
    @shared_task(name="calling.outer")
    def outer() -> None:
        add.delay(1, 2)
        add.apply_async((1, 2), add_to_parent=False)
        direct()

    @shared_task(name="calling.direct")
    def direct() -> None:
        add.delay(3, 4)

    sent = outer.delay()
    outcome = inbox.run()
    children = [delivery.message.headers for delivery in inbox.receive()]
    assert [child["parent_id"] for child in children] == [sent.id] * 3
    assert [child["root_id"] for child in children] == [sent.id] * 3
    assert list(map(str, sent.children or ())) == [children[0]["id"], children[2]["id"]]
    assert outcome.follow_ups == []


def test_a_task_without_a_trail_records_no_children(add: Task[..., int], inbox: Inbox) -> None:
    @shared_task(name="calling.outer", trail=False)
    def outer() -> None:
        add.delay(1, 2)

    sent = outer.delay()
    inbox.run()
    assert sent.children == []


def test_ignoring_the_result_may_be_said_per_call(add: Task[..., int], inbox: Inbox) -> None:
    result = add.apply_async((1, 2), ignore_result=True)
    assert result.ignored
    assert result.get() is None
    assert inbox.run().document is None


def test_before_task_publish_may_change_the_message(add: Task[..., int], inbox: Inbox) -> None:
    def stamp(headers: dict[str, Any], **_: Any) -> None:
        headers["tenant"] = "acme"

    signals.before_task_publish.connect(stamp, sender="calling.add")
    try:
        add.delay(1, 2)
    finally:
        signals.before_task_publish.disconnect(stamp, sender="calling.add")
    assert headers(inbox)["tenant"] == "acme"


def test_a_coroutine_calls_without_blocking(add: Task[..., int], inbox: Inbox) -> None:
    async def call() -> list[str]:
        signature = add.s(1, 2)
        handles = [
            await add.adelay(1, 2),
            await add.aapply_async((1, 2)),
            await signature.adelay(),
            await signature.aapply_async(),
            await app.asend_task("calling.add", (1, 2)),
        ]
        return [handle.id for handle in handles]

    ids = asyncio.run(call())
    assert [delivery.message.headers["id"] for delivery in inbox.receive()] == ids


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_a_task_is_sent_when_it_commits(add: Task[..., int], inbox: Inbox) -> None:
    with transaction.atomic():
        waiting = add.delay(1, 2)
        at_once = add.apply_async((1, 2), on_commit=False)
        assert [delivery.message.headers["id"] for delivery in inbox.receive()] == [at_once.id]
        assert waiting.state == "PENDING"
        with pytest.raises(NotSentYet, match="when the transaction on 'default' is committed"):
            waiting.get(timeout=5)
    assert headers(inbox)["id"] == waiting.id


@pytest.mark.django_db(transaction=True)
def test_a_rollback_drops_the_task_and_the_handle_says_so(add: Task[..., int], inbox: Inbox) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        dropped = add.delay_on_commit(1, 2)
        raise ZeroDivisionError
    assert inbox.receive() == []
    with pytest.raises(NotSentYet, match="rolled back"):
        dropped.get(timeout=5)


@pytest.mark.django_db(transaction=True)
def test_with_the_setting_off_tasks_wait_only_when_asked_to(add: Task[..., int], inbox: Inbox) -> None:
    with settings.override(TASK_ON_COMMIT=False), transaction.atomic():
        add.delay(1, 2)
        assert len(inbox.receive()) == 1
        add.delay_on_commit(1, 2)
        add.apply_async_on_commit((1, 2))
        assert inbox.receive() == []
    assert len(inbox.receive()) == 2


def test_many_calls_are_sent_in_order_with_one_handle_each(add: Task[..., int], inbox: Inbox) -> None:
    handles = enqueue_many(
        [
            add.s(1, 1),
            (add, (2, 2)),
            ("calling.add", [3], {"y": 3}),
            ("nobody.knows",),
            add.s(5, 5).set(priority=9),
        ],
        priority=1,
    )
    messages = [delivery.message for delivery in inbox.receive()]
    assert [message.headers["id"] for message in messages] == [handle.id for handle in handles]
    assert [message.properties["priority"] for message in messages] == [1, 1, 1, 1, 9]
    assert read_body(messages[2])[:2] == ([3], {"y": 3})


def test_of_many_calls_one_that_does_not_fit_stops_all(add: Task[..., int], inbox: Inbox) -> None:
    for wrong in (add.s(1), ("calling.add", (1, 2, 3)), 7, (), add.s(1, 2) | add.s(3)):
        with pytest.raises(TypeError):
            enqueue_many([add.s(1, 2), wrong])
    assert inbox.receive() == []
    assert enqueue_many([]) == []


def test_the_door_leads_everywhere(add: Task[..., int]) -> None:
    assert isinstance(app.tasks, Registry)
    assert app.conf.task_default_queue == "default"
    assert app.conf["broker_url"] == "memory://"
    assert "task_routes" in app.conf
    assert app.AsyncResult("x").id == "x"
    assert app.signature("calling.add", (1, 2)) == add.s(1, 2)
    assert app.now().tzinfo is not None
    assert app.autodiscover_tasks(["tests.project", "tests.support"]) == ["tests.project.tasks"]
    assert app.autodiscover_tasks(lambda: ["tests.project"], related_name="models") == []
    with pytest.raises(KeyError, match="Did you mean"):
        app.conf["brokr_url"]


def test_settings_change_through_the_door() -> None:
    try:
        app.conf.update(task_default_queue="other")
        assert settings.TASK_DEFAULT_QUEUE == "other"
        app.conf.task_default_queue = "third"
        assert settings.TASK_DEFAULT_QUEUE == "third"
    finally:
        settings.reset()
