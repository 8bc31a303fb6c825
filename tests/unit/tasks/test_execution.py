"""Running a message: whatever is in it and whatever user code does, an outcome leaves."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from djqueue import Task, app, current_task, shared_task, signals, states
from djqueue.conf import settings
from djqueue.core.messages import WireMessage
from djqueue.core.requests import Request
from djqueue.exceptions import (
    EncodeError,
    Ignore,
    NotRegistered,
    Reject,
    RemoteError,
    SoftTimeLimitExceeded,
    WorkerShutdown,
)
from djqueue.tasks.execution import Run, perform
from djqueue.tasks.outcome import ACK, REJECT, REQUEUE
from djqueue.tasks.transactional import TakenOver
from tests.support.in_process import NODE, DictStore, Inbox


class Expected(Exception):
    pass


def test_what_a_task_returns_is_stored_with_all_that_is_known_of_it(inbox: Inbox) -> None:
    @shared_task(name="run.add")
    def add(x: int, y: int) -> int:
        return x + y

    result = add.apply_async((1,), {"y": 2}, headers={"periodic_task_name": "nightly"})
    outcome = inbox.run()
    document = outcome.document
    assert (outcome.state, outcome.settle, outcome.summary) == (states.SUCCESS, ACK, "3")
    assert outcome.runtime > 0
    assert document is not None
    assert (document.name, document.args, document.kwargs) == ("run.add", "(1,)", "{'y': 2}")
    assert (document.worker, document.queue, document.retries) == (NODE, "default", 0)
    assert (document.root_id, document.periodic_task_name) == (result.id, "nightly")
    assert document.date_started is not None
    assert document.date_done is not None
    assert document.date_started <= document.date_done
    assert result.get(timeout=1) == 3
    assert result.children == []


def test_less_is_kept_when_results_are_not_extended(inbox: Inbox) -> None:
    shared_task(name="run.nothing")(lambda: None).delay()
    with settings.override(RESULT_EXTENDED=False):
        document = inbox.run().document
    assert document is not None
    assert (document.name, document.args, document.worker, document.queue) == (None, None, None, None)


def test_a_task_knows_its_request(inbox: Inbox) -> None:
    seen: dict[str, Any] = {}

    @shared_task(name="run.look", bind=True)
    def look(self: Task[..., Any], x: int) -> None:
        request = self.request
        seen.update(
            {name: request.get(name) for name in ("id", "args", "kwargs", "retries", "hostname", "starts")}
        )
        seen["tenant"], seen["info"] = request.tenant, request.delivery_info
        seen["current"] = current_task.request.id
        seen["direct"] = (request.called_directly, request.is_eager)

    assert not current_task
    with pytest.raises(AttributeError, match="No task is being run here"):
        current_task.request  # noqa: B018
    sent = look.apply_async((5,), headers={"tenant": "acme"})
    inbox.run()
    info = seen.pop("info")
    assert seen == {
        "id": sent.id,
        "args": [5],
        "kwargs": {},
        "retries": 0,
        "starts": 0,
        "hostname": NODE,
        "tenant": "acme",
        "current": sent.id,
        "direct": (False, False),
    }
    assert info["queue"] == info["routing_key"] == "default"
    assert look.request.id is None
    assert look.request.called_directly


def test_what_a_task_raises_is_its_failure(inbox: Inbox) -> None:
    @shared_task(name="run.fail")
    def fail() -> None:
        raise Expected("as asked", 7)

    result = fail.delay()
    outcome = inbox.run()
    assert (outcome.state, outcome.settle, outcome.expected) == (states.FAILURE, ACK, False)
    assert outcome.summary == "Expected('as asked', 7)"
    assert outcome.traceback is not None
    assert outcome.traceback.startswith("Traceback (most recent call last):\n")
    assert "djqueue/tasks" not in outcome.traceback
    assert outcome.traceback.endswith("Expected: ('as asked', 7)\n")
    assert result.traceback == outcome.traceback
    with pytest.raises(Expected, match="as asked"):
        result.get(timeout=1)


def test_an_expected_exception_is_marked(inbox: Inbox) -> None:
    @shared_task(name="run.fail", throws=(Expected, KeyError))
    def fail() -> None:
        raise Expected

    fail.delay()
    assert inbox.run().expected


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError("big"), asyncio.CancelledError()],
    ids=lambda error: type(error).__name__,
)
def test_no_exception_of_a_task_leaves_its_run(inbox: Inbox, error: BaseException) -> None:
    @shared_task(name="run.fail")
    def fail() -> None:
        raise error

    result = fail.delay()
    assert inbox.run().state == states.FAILURE
    assert type(result.result) is type(error)


def test_only_what_is_meant_to_end_the_worker_gets_out(inbox: Inbox) -> None:
    @shared_task(name="run.stop")
    def stop() -> None:
        raise WorkerShutdown(0)

    stop.delay()
    with pytest.raises(WorkerShutdown):
        inbox.run()


def test_an_exception_that_cannot_be_shown_is_a_failure_like_others(inbox: Inbox) -> None:
    class Rude(Exception):
        def __str__(self) -> str:
            raise ValueError("no")

        __repr__ = __str__

    @shared_task(name="run.fail")
    def fail() -> None:
        raise Rude(object())

    result = fail.delay()
    outcome = inbox.run()
    assert outcome.state == states.FAILURE
    assert outcome.traceback is not None
    assert "Rude" in outcome.traceback
    assert isinstance(result.result, RemoteError)


def test_a_very_long_traceback_loses_its_middle(inbox: Inbox) -> None:
    @shared_task(name="run.fail")
    def fail() -> None:
        raise Expected("x" * 200_000)

    fail.delay()
    traceback = inbox.run().traceback
    assert traceback is not None
    assert len(traceback) < 70_000
    assert "characters left out" in traceback


def test_a_result_that_cannot_be_written_is_a_failure(inbox: Inbox) -> None:
    @shared_task(name="run.thing")
    def thing() -> object:
        return object()

    sent = thing.delay()
    assert inbox.run().state == states.FAILURE
    with pytest.raises(EncodeError):
        sent.get(timeout=1)


def test_a_result_nobody_wants_is_neither_written_nor_kept(inbox: Inbox, store: DictStore) -> None:
    @shared_task(name="run.thing", ignore_result=True)
    def thing(fails: bool) -> object:
        if fails:
            raise Expected
        return object()

    thing.delay(False)
    assert inbox.run().state == states.SUCCESS
    thing.delay(True)
    assert inbox.run().state == states.FAILURE
    assert store.documents == {}
    thing.store_errors_even_if_ignored = True
    thing.delay(True)
    inbox.run()
    assert [document.status for document in store.documents.values()] == [states.FAILURE]


def test_arguments_that_do_not_fit_the_function_are_a_failure(inbox: Inbox) -> None:
    shared_task(name="run.two")(lambda x, y: None)
    app.send_task("run.two", [1])
    outcome = inbox.run()
    assert outcome.state == states.FAILURE
    assert "missing 1 required positional argument" in outcome.summary


def test_an_unknown_task_is_a_failure_and_a_dead_letter(inbox: Inbox) -> None:
    shared_task(name="run.two")(lambda: None)
    result = app.send_task("run.twoo")
    outcome = inbox.run()
    assert (outcome.state, outcome.settle) == (states.FAILURE, REJECT)
    with pytest.raises(NotRegistered):
        result.get(timeout=1)


@pytest.mark.parametrize(
    ("body", "content_type", "says"),
    [
        (b"not json", "application/json", "cannot be read"),
        (b"[[1]]", "application/json", "body of a task must be"),
        (b"[1, {}, {}]", "application/json", "args"),
        (b"\x80\x04N.", "application/x-python-serialize", "not accepted"),
    ],
)
def test_a_body_that_cannot_be_read_is_a_failure_and_a_dead_letter(
    inbox: Inbox, body: bytes, content_type: str, says: str
) -> None:
    shared_task(name="run.two")(lambda: None).delay()
    delivery = inbox.next()
    delivery.message.body, delivery.message.content_type = body, content_type
    outcome = inbox.run(delivery)
    assert (outcome.state, outcome.settle) == (states.FAILURE, REJECT)
    assert says in outcome.summary
    assert outcome.document is not None
    assert outcome.document.status == states.FAILURE


def test_a_message_that_is_no_task_is_a_dead_letter_without_a_result() -> None:
    for headers in ({}, {"task": "x"}, {"task": "", "id": "1"}):
        outcome = perform(WireMessage(dict(headers), {}, b"[]"), worker=NODE)
        assert (outcome.state, outcome.settle, outcome.document) == (states.REJECTED, REJECT, None)


def test_protocol_1_is_run_as_well(inbox: Inbox) -> None:
    @shared_task(name="run.add")
    def add(x: int, y: int) -> int:
        return x + y

    result = add.apply_async((1, 2), task_protocol=1)
    assert inbox.run().state == states.SUCCESS
    assert result.get(timeout=1) == 3


def test_ignore_stores_nothing(inbox: Inbox, store: DictStore) -> None:
    @shared_task(name="run.ignore")
    def ignore() -> None:
        raise Ignore

    ignore.delay()
    outcome = inbox.run()
    assert (outcome.state, outcome.settle, outcome.document) == (states.IGNORED, ACK, None)


def test_reject_gives_back_or_buries(inbox: Inbox) -> None:
    @shared_task(name="run.reject")
    def reject(requeue: bool) -> None:
        raise Reject("no", requeue=requeue)

    reject.delay(True)
    outcome = inbox.run()
    assert (outcome.state, outcome.settle, outcome.document) == (states.REJECTED, REQUEUE, None)
    result = reject.delay(False)
    outcome = inbox.run()
    assert (outcome.state, outcome.settle) == (states.REJECTED, REJECT)
    assert result.state == states.FAILURE
    assert isinstance(result.result, Reject)


@pytest.mark.parametrize(
    ("options", "error", "settle"),
    [
        ({}, Expected(), ACK),
        ({"acks_on_failure_or_timeout": False}, Expected(), ACK),
        ({"acks_on_failure": False}, Expected(), REJECT),
        ({"acks_on_failure": False}, SoftTimeLimitExceeded(), ACK),
        ({"acks_on_timeout": False}, SoftTimeLimitExceeded(), REJECT),
        ({"acks_on_failure": False, "acks_late": False}, Expected(), ACK),
    ],
)
def test_whether_failing_counts_as_done_with_is_up_to_the_task(
    inbox: Inbox, options: dict[str, Any], error: Exception, settle: str
) -> None:
    @shared_task(name="run.fail", **options)
    def fail() -> None:
        raise error

    fail.delay()
    assert inbox.run().settle == settle


def test_a_state_that_a_task_sets_is_reported_at_once(inbox: Inbox, store: DictStore) -> None:
    @shared_task(name="run.progress", bind=True)
    def progress(self: Task[..., Any]) -> Any:
        self.update_state(state="PROGRESS", meta={"done": 1})
        return store.documents[self.request.id].as_meta()

    result = progress.delay()
    inbox.run()
    (document,) = inbox.reported
    assert (document.status, document.value(), document.date_done) == ("PROGRESS", {"done": 1}, None)
    assert result.get(timeout=1)["result"] == {"done": 1}


def test_a_state_may_be_set_for_another_task(inbox: Inbox, store: DictStore) -> None:
    mark = shared_task(name="run.mark")(lambda: None)
    mark.update_state("some-id", "PROGRESS", {"done": 2})
    assert app.AsyncResult("some-id").info == {"done": 2}
    mark.update_state("other-id", states.FAILURE, ValueError("by hand"))
    with pytest.raises(ValueError, match="by hand"):
        app.AsyncResult("other-id").get(timeout=1)
    with pytest.raises(RuntimeError, match="needs a task_id"):
        mark.update_state(state="PROGRESS")
    with pytest.raises(TypeError, match="needs a state"):
        mark.update_state("some-id")
    with pytest.raises(TypeError, match="must be an exception"):
        mark.update_state("some-id", states.FAILURE, {"done": 1})


def test_a_task_may_leave_its_end_to_somebody_else(inbox: Inbox, store: DictStore) -> None:
    @shared_task(name="run.asks", bind=True)
    def asks(self: Task[..., Any]) -> Any:
        self.update_state(state="WAITING", meta={"number": 1})
        raise Ignore

    result = asks.delay()
    assert inbox.run().settle == "ack"
    assert asks.backend.get_task_meta(result.id)["result"] == {"number": 1}
    app.backend.mark_as_done(result.id, "receipt")
    assert result.get(timeout=1) == "receipt"


def test_handlers_and_signals_come_in_their_order(inbox: Inbox) -> None:
    seen: list[str] = []

    class Told(Task[..., Any]):
        def before_start(self, *args: Any) -> None:
            seen.append("before_start")

        def on_success(self, retval: Any, *args: Any) -> None:
            seen.append(f"on_success {retval}")

        def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
            seen.append(f"on_failure {einfo.type.__name__}")
            assert str(einfo).endswith("Expected\n")

        def after_return(self, status: str, retval: Any, *rest: Any) -> None:
            seen.append(f"after_return {status}")

    @shared_task(name="run.told", base=Told)
    def told(fails: bool) -> int:
        seen.append("body")
        if fails:
            raise Expected
        return 1

    receivers: list[tuple[Any, Callable[..., None]]] = []
    for name in ("task_prerun", "task_success", "task_failure", "task_postrun"):
        hook = getattr(signals, name)
        receiver = lambda name=name, **named: seen.append(f"{name} {named.get('state', '')}".strip())  # noqa: E731
        hook.connect(receiver, sender=told)
        receivers.append((hook, receiver))
    told.delay(False)
    inbox.run()
    assert seen == [
        "task_prerun",
        "before_start",
        "body",
        "on_success 1",
        "task_success",
        "after_return SUCCESS",
        "task_postrun SUCCESS",
    ]
    seen.clear()
    told.delay(True)
    inbox.run()
    for hook, receiver in receivers:
        hook.disconnect(receiver, sender=told)
    assert seen == [
        "task_prerun",
        "before_start",
        "body",
        "on_failure Expected",
        "task_failure",
        "after_return FAILURE",
        "task_postrun FAILURE",
    ]


def test_what_a_handler_raises_is_logged_and_changes_nothing(
    inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    class Clumsy(Task[..., Any]):
        def on_success(self, *args: Any) -> None:
            raise Expected("in a handler")

        def after_return(self, *args: Any) -> None:
            raise Expected("in a handler")

    shared_task(name="run.clumsy", base=Clumsy)(lambda: 1).delay()
    with caplog.at_level(logging.ERROR, "djqueue.task"):
        assert inbox.run().state == states.SUCCESS
    assert caplog.text.count("Expected: in a handler") == 2


def test_what_before_start_raises_is_the_tasks_failure(inbox: Inbox) -> None:
    class Guarded(Task[..., Any]):
        def before_start(self, *args: Any) -> None:
            raise Expected("not today")

    shared_task(name="run.guarded", base=Guarded)(lambda: pytest.fail("was run")).delay()
    outcome = inbox.run()
    assert (outcome.state, outcome.summary) == (states.FAILURE, "Expected('not today')")


def test_an_overridden_call_surrounds_every_run(inbox: Inbox) -> None:
    seen: list[Any] = []

    class Surrounded(Task[..., Any]):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            seen.append(("in", self.request.called_directly))
            try:
                return super().__call__(*args, **kwargs)
            finally:
                seen.append("out")

    @shared_task(name="run.around", base=Surrounded, bind=True)
    def around(self: Task[..., Any]) -> Any:
        seen.append(("body", self.request.called_directly))
        return self.request.id

    result = around.delay()
    inbox.run()
    assert result.get(timeout=1) == result.id
    assert seen == [("in", False), ("body", False), "out"]
    seen.clear()
    assert around() is None
    assert seen == [("in", True), ("body", True), "out"]


def test_a_coroutine_is_run_and_its_database_work_stays_in_this_thread(inbox: Inbox) -> None:
    @shared_task(name="run.later", bind=True)
    async def later(self: Task[..., Any], x: int) -> Any:
        await self.aupdate_state(state="PROGRESS", meta=1)
        return [x, self.request.id, await sync_to_async(os.getpid)()]

    result = later.delay(4)
    assert inbox.run().state == states.SUCCESS
    assert result.get(timeout=1) == [4, result.id, os.getpid()]
    assert [document.status for document in inbox.reported] == ["PROGRESS"]
    assert asyncio.run(later(5))[:2] == [5, None]


def test_a_coroutine_that_fails_shows_only_its_own_frames(inbox: Inbox) -> None:
    @shared_task(name="run.later")
    async def later() -> None:
        raise Expected

    later.delay()
    traceback = inbox.run().traceback
    assert traceback is not None
    assert "asgiref" not in traceback


def test_a_coroutine_whose_waiting_is_interrupted_is_cancelled(inbox: Inbox) -> None:
    seen: list[str] = []

    def interrupt(*_: Any) -> None:
        raise SoftTimeLimitExceeded(1)

    @shared_task(name="run.endless")
    async def endless() -> None:
        try:
            os.kill(os.getpid(), signal.SIGUSR1)  # as the soft time limit does: it interrupts the main thread
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    endless.delay()
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        outcome = inbox.run()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert outcome.state == states.FAILURE
    assert "SoftTimeLimitExceeded" in outcome.summary
    assert seen == ["cancelled"]


def test_a_bug_at_the_end_of_a_run_keeps_the_message(inbox: Inbox, caplog: pytest.LogCaptureFixture) -> None:
    shared_task(name="run.fine")(lambda: 1).delay()
    heard: list[Any] = []
    receiver = lambda **named: heard.append(named["exception"])  # noqa: E731
    signals.task_internal_error.connect(receiver)
    with settings.override(RESULT_SERIALIZER="no-such"), caplog.at_level(logging.CRITICAL, "djqueue.task"):
        outcome = inbox.run()
    signals.task_internal_error.disconnect(receiver)
    assert (outcome.state, outcome.settle, outcome.document) == (states.FAILURE, REJECT, None)
    assert len(heard) == 1
    assert "could not be ended" in caplog.text


def test_a_soft_limit_while_the_end_is_put_together_is_a_failure(inbox: Inbox) -> None:
    class Slow(Task[..., Any]):
        def on_success(self, *args: Any) -> None:
            raise Limit(1)

    class Limit(SoftTimeLimitExceeded, BaseException):
        pass

    shared_task(name="run.slow", base=Slow)(lambda: 1).delay()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("djqueue.tasks.execution.Run._guarded", lambda self, handler, *args: handler(*args))
        assert inbox.run().state == states.FAILURE


def test_a_run_whose_message_others_have_taken_over_counts_in_no_chord() -> None:
    task = shared_task(name="execution.part")(lambda: None)
    counts = {}
    for error in (TakenOver("gone"), Ignore("no")):
        request = Request(id="t", task=task.name, group="g", group_index=0, chord=dict(task.s()))
        run = Run(task, request)
        run.ignore(error)
        counts[type(error)] = [part.key for part in run.outcome.parts]
    assert counts == {TakenOver: [], Ignore: ["t:0"]}
