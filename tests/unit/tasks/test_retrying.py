"""Retries: what the next message keeps, when it is due, and what happens when there are no more."""

from __future__ import annotations

import time
from typing import Any

import pytest

from djqueue import Task, shared_task, signals, states
from djqueue.conf import settings
from djqueue.core.protocol import read_body
from djqueue.exceptions import EncodeError, MaxRetriesExceededError, Retry
from djqueue.tasks.execution import perform
from tests.support.in_process import NODE, Inbox, rerun


class Expected(Exception):
    pass


class Other(Exception):
    pass


@pytest.fixture
def again() -> Task[..., Any]:
    @shared_task(name="retry.again", bind=True)
    def again(self: Task[..., Any], *args: Any, **kwargs: Any) -> None:
        raise self.retry(**kwargs)

    return again


def test_a_retry_is_the_same_call_once_more(again: Task[..., Any]) -> None:
    inbox = Inbox("special")
    result = again.apply_async(
        (1, 2),
        queue="special",
        headers={"tenant": "acme"},
        shadow="shade",
        priority=4,
        expires=3600,
        time_limit=30,
        soft_time_limit=20,
        ignore_result=False,
        reply_to="somewhere",
        stamped_headers=["batch"],
        batch="b1",
        link=again.s(),
        link_error=again.s("failed"),
        group_id="g1",
        group_index=3,
    )
    first = inbox.next()
    first.message.headers["x-death"] = "of a broker"
    outcome = inbox.run(first)
    (following,) = outcome.follow_ups
    sent, message = first.message, following.message
    for name in sent.headers.keys() - {"retries", "eta", "parent_id", "x-death"}:
        assert message.headers[name] == sent.headers[name], name
    assert message.headers["retries"] == 1
    assert message.headers["parent_id"] == result.id
    assert "x-death" not in message.headers
    assert message.properties == sent.properties
    assert read_body(message) == read_body(sent)
    assert following.destination.queue == "special"
    assert following.due == pytest.approx(time.time() + 180, abs=5)


def test_the_state_of_a_retry_names_its_reason(again: Task[..., Any], inbox: Inbox) -> None:
    @shared_task(name="retry.reason", bind=True)
    def reason(self: Task[..., Any]) -> None:
        try:
            raise Expected("why")
        except Expected as exc:
            raise self.retry(exc=exc, countdown=3) from exc

    result = reason.delay()
    outcome = inbox.run()
    assert (outcome.state, outcome.summary) == (states.RETRY, "Retry in 3s: Expected('why')")
    assert result.state == states.RETRY
    assert isinstance(result.info, Expected)
    assert result.traceback is not None
    assert result.traceback.endswith("Retry: Retry in 3s: Expected('why')\n")
    assert result.children == [result]
    assert not result.ready()


def test_arguments_options_and_time_may_be_changed(inbox: Inbox) -> None:
    @shared_task(name="retry.changed", bind=True)
    def changed(self: Task[..., Any], x: int, y: int = 0) -> None:
        raise self.retry(args=(), kwargs={"x": 9}, countdown=0, queue="other", priority=7)

    changed.delay(1, y=2)
    (following,) = inbox.run().follow_ups
    assert read_body(following.message)[:2] == ([], {"x": 9})
    assert following.destination.queue == "other"
    assert following.message.properties["priority"] == 7
    assert following.message.headers["eta"] is None
    assert following.due is None


def test_a_later_try_outranks_an_earlier_one(again: Task[..., Any], inbox: Inbox) -> None:
    again.delay()
    first = inbox.run()
    second = rerun(first.follow_ups[0])
    assert first.document is not None
    assert second.document is not None
    assert second.document.attempt > first.document.attempt
    assert second.document.retries == 1


@pytest.mark.parametrize(
    ("how", "error"),
    [({"exc": Expected("given")}, Expected), ({}, MaxRetriesExceededError)],
    ids=["exc", "nothing"],
)
def test_when_there_are_no_more_retries_the_task_fails(
    again: Task[..., Any], inbox: Inbox, how: dict[str, Any], error: type[Exception]
) -> None:
    @shared_task(name="retry.once", bind=True, max_retries=1)
    def once(self: Task[..., Any]) -> None:
        raise self.retry(countdown=0, **how)

    result = once.delay()
    states_seen = [outcome.state for outcome in inbox.run_all()]
    assert states_seen == [states.RETRY, states.FAILURE]
    assert isinstance(result.result, error)
    with pytest.raises(error):
        result.get(timeout=1)


def test_the_exception_being_handled_is_raised_when_there_are_no_more(inbox: Inbox) -> None:
    @shared_task(name="retry.never", bind=True, max_retries=0)
    def never(self: Task[..., Any]) -> None:
        try:
            raise Expected("handled")
        except Expected:
            self.retry()

    result = never.delay()
    inbox.run()
    assert isinstance(result.result, Expected)


def test_the_limit_may_be_given_by_call_or_taken_away(inbox: Inbox) -> None:
    @shared_task(name="retry.limits", bind=True, max_retries=None)
    def limits(self: Task[..., Any], most: int | None) -> None:
        raise self.retry(countdown=0, max_retries=most)

    result = limits.delay(2)
    assert [outcome.state for outcome in inbox.run_all()] == [states.RETRY] * 2 + [states.FAILURE]
    assert "was retried 2 times and may be 2 times" in str(result.result)
    limits.delay(None)
    outcome = inbox.run()
    for _ in range(5):
        outcome = rerun(outcome.follow_ups[0])
    assert outcome.state == states.RETRY


def test_a_retry_not_thrown_is_sent_when_the_run_ends(inbox: Inbox) -> None:
    @shared_task(name="retry.quiet", bind=True)
    def quiet(self: Task[..., Any]) -> str:
        if self.request.retries:
            return "second"
        assert isinstance(self.retry(throw=False, countdown=0), Retry)
        return "first"

    result = quiet.delay()
    assert [outcome.summary for outcome in inbox.run_all()] == ["'first'", "'second'"]
    assert result.get(timeout=1) == "second"


def test_a_retry_raised_by_hand_is_one_all_the_same(inbox: Inbox) -> None:
    @shared_task(name="retry.hand", default_retry_delay=7)
    def hand() -> None:
        raise Retry("once more")

    hand.delay()
    outcome = inbox.run()
    assert outcome.state == states.RETRY
    assert outcome.follow_ups[0].due == pytest.approx(time.time() + 7, abs=5)


def test_a_retry_that_cannot_be_written_is_a_failure(again: Task[..., Any], inbox: Inbox) -> None:
    @shared_task(name="retry.thing", bind=True)
    def thing(self: Task[..., Any]) -> None:
        raise self.retry(args=(object(),))

    result = thing.delay()
    assert inbox.run().state == states.FAILURE
    assert isinstance(result.result, EncodeError)


def test_called_as_a_function_a_task_raises_instead_of_retrying(again: Task[..., Any]) -> None:
    with pytest.raises(Expected):
        again(exc=Expected())
    with pytest.raises(Retry, match="Task can be retried"):
        again()


def test_handlers_and_signals_hear_of_a_retry(inbox: Inbox) -> None:
    heard: list[Any] = []

    class Told(Task[..., Any]):
        def on_retry(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
            heard.append((exc, einfo.type))

        def after_return(self, *args: Any) -> None:
            heard.append("after_return")

    @shared_task(name="retry.told", base=Told, bind=True)
    def told(self: Task[..., Any]) -> None:
        raise self.retry(exc=Expected("x"))

    receiver = lambda **named: heard.append(named["reason"])  # noqa: E731
    signals.task_retry.connect(receiver, sender=told)
    told.delay()
    inbox.run()
    signals.task_retry.disconnect(receiver, sender=told)
    assert [heard[0][1], type(heard[0][0]), type(heard[1])] == [Retry, Expected, Expected]
    assert len(heard) == 2


def test_listed_exceptions_retry_by_themselves_others_do_not(inbox: Inbox) -> None:
    @shared_task(name="retry.auto", autoretry_for=(Exception,), dont_autoretry_for=(Other,), max_retries=1)
    def auto(other: bool) -> None:
        raise Other if other else Expected("auto")

    auto.delay(True)
    assert inbox.run().state == states.FAILURE
    result = auto.delay(False)
    outcome = inbox.run()
    assert outcome.state == states.RETRY
    assert outcome.follow_ups[0].due == pytest.approx(time.time() + 180, abs=5)
    last = rerun(outcome.follow_ups[0])
    assert last.state == states.FAILURE
    assert last.document is not None
    assert isinstance(last.document.value(), Expected)
    assert last.traceback is not None
    assert "djqueue/tasks" not in last.traceback
    assert result.state == states.RETRY


@pytest.mark.parametrize(
    ("options", "delays"),
    [
        ({"retry_backoff": True}, [1, 2, 4, 8]),
        ({"retry_backoff": 3, "retry_backoff_max": 10}, [3, 6, 10, 10]),
        ({"retry_kwargs": {"countdown": 5}}, [5, 5, 5, 5]),
        ({"retry_kwargs": {"countdown": 5, "max_retries": 1}}, [5]),
        ({"default_retry_delay": 6}, [6, 6, 6, 6]),
    ],
    ids=repr,
)
def test_automatic_retries_wait_as_told(inbox: Inbox, options: dict[str, Any], delays: list[int]) -> None:
    @shared_task(name="retry.auto", autoretry_for=(Expected,), retry_jitter=False, max_retries=4, **options)
    def auto() -> None:
        raise Expected

    auto.delay()
    seen = []
    outcome = inbox.run()
    while outcome.follow_ups:
        due = outcome.follow_ups[0].due
        seen.append(0 if due is None else round(due - time.time()))
        outcome = rerun(outcome.follow_ups[0])
    assert seen == delays


def test_a_retry_that_the_task_asked_for_is_not_retried_again_by_itself(inbox: Inbox) -> None:
    @shared_task(
        name="retry.both", bind=True, autoretry_for=(Exception,), retry_backoff=100, retry_jitter=False
    )
    def both(self: Task[..., Any]) -> None:
        raise self.retry(countdown=5)

    both.delay()
    assert inbox.run().summary == "Retry in 5s"


def test_a_retry_keeps_the_serializer_and_compression_of_the_call(
    again: Task[..., Any], inbox: Inbox
) -> None:
    again.apply_async(((1, 2),), serializer="yaml", compression="zlib")
    delivery = inbox.next()
    with settings.override(ACCEPT_CONTENT=("json", "yaml")):
        outcome = perform(delivery.message, delivery_info=delivery.delivery_info(), worker=NODE)
        message = outcome.follow_ups[0].message
    assert message.content_type == "application/x-yaml"
    assert message.headers["compression"] == "application/x-gzip"
