"""Sending inside transactions: on commit, never after a rollback, whatever the broker and the aliases.

Tasks are sent inside atomic blocks of two databases, with and without savepoints, to a broker outside of them
(memory) and to one that is one of them; then is looked at what has arrived, and what the handle says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections, transaction
from django.db.transaction import TransactionManagementError
from django.test import TestCase

from djqueue.conf import settings
from djqueue.core.calls import Call, Plan
from djqueue.exceptions import EncodeError, ImproperlyConfigured, OperationalError
from djqueue.messaging import brokers, publisher
from djqueue.messaging.departures import Departure
from djqueue.models import Message
from djqueue.signals import after_task_publish, before_task_publish

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

PLAN = Plan.for_name("tests.add")


class Undo(Exception):
    """Ends an atomic block with a rollback."""


def send(name: str, *, on_commit: bool | None = None, using: str | None = None) -> Departure:
    """Send a task whose id is `name`."""
    return publisher.send(Call(PLAN, name), on_commit=on_commit, using=using)


def arrived() -> list[str]:
    """Return the ids of all messages in the default queue, in order, and take them out."""
    broker = brokers.broker()
    source = broker.source(["default"], "reader")
    source.open(lambda fileobj, callback: None, lambda: None)
    deliveries = source.receive(10_000)
    source.settle([delivery.ack() for delivery in deliveries])
    source.close()
    return [delivery.message.headers["id"] for delivery in deliveries]


@pytest.fixture(params=["memory://", "django://default", "django://other"])
def any_broker(request: pytest.FixtureRequest) -> Iterator[str]:
    with settings.override(BROKER_URL=request.param):
        yield request.param


@pytest.fixture
def memory_broker() -> Iterator[None]:
    with settings.override(BROKER_URL="memory://"):
        yield


@pytest.fixture
def bulk(monkeypatch: pytest.MonkeyPatch, memory_broker: None) -> list[int]:
    """Return the sizes of the batches that the broker gets."""
    sizes: list[int] = []
    broker = brokers.broker()
    send_many = broker.send_many

    def counted(outgoing: list[object]) -> None:
        sizes.append(len(outgoing))
        send_many(outgoing)  # type: ignore[arg-type]

    monkeypatch.setattr(broker, "send_many", counted)
    return sizes


def test_outside_transactions_a_task_leaves_at_once(any_broker: str) -> None:
    departure = send("a")
    assert (departure.state, departure.why()) == ("sent", "its message was sent.")
    assert arrived() == ["a"]


@pytest.mark.parametrize("alias", ["default", "other"])
def test_inside_a_transaction_it_leaves_when_that_commits(any_broker: str, alias: str) -> None:
    with transaction.atomic(using=alias):
        departure = send("a")
        assert departure.state == "waiting"
        assert f"is sent when the transaction on '{alias}' is committed" in departure.why()
    assert departure.state == "sent"
    assert arrived() == ["a"]


@pytest.mark.parametrize("alias", ["default", "other"])
def test_a_rollback_drops_it(any_broker: str, alias: str) -> None:
    with pytest.raises(Undo), transaction.atomic(using=alias):
        departure = send("a")
        raise Undo
    assert departure.state == "dropped"
    assert f"the transaction on '{alias}' in which it was sent was rolled back" in departure.why()
    assert arrived() == []


def test_a_rollback_to_a_savepoint_drops_what_was_sent_since(any_broker: str) -> None:
    with transaction.atomic():
        kept = send("before")
        with pytest.raises(Undo), transaction.atomic():
            dropped = send("inside")
            raise Undo
        assert dropped.state == "dropped"
        with transaction.atomic():
            released = send("released")
        after = send("after")
        assert [one.state for one in (kept, released, after)] == ["waiting"] * 3
    assert [one.state for one in (kept, released, after)] == ["sent"] * 3
    assert arrived() == ["before", "released", "after"]


def test_a_block_without_a_savepoint_that_fails_drops_the_whole_transaction(any_broker: str) -> None:
    with transaction.atomic():
        departure = send("a")
        with pytest.raises(Undo), transaction.atomic(savepoint=False):
            raise Undo
    assert departure.state == "dropped"
    assert arrived() == []


def test_it_waits_for_every_open_transaction(any_broker: str) -> None:
    with transaction.atomic(using="other"):
        with transaction.atomic():
            departure = send("a")
        assert departure.state == "waiting"
        assert "the transaction on 'other' is committed" in departure.why()
    assert departure.state == "sent"
    assert arrived() == ["a"]


@pytest.mark.parametrize(("outer", "inner"), [("default", "other"), ("other", "default")])
def test_a_rollback_of_any_transaction_drops_it(any_broker: str, outer: str, inner: str) -> None:
    with pytest.raises(Undo), transaction.atomic(using=outer):
        with transaction.atomic(using=inner):
            departure = send("a")
        raise Undo
    assert departure.state == "dropped"
    with transaction.atomic(using=outer), pytest.raises(Undo), transaction.atomic(using=inner):
        departure = send("b")
        raise Undo
    assert departure.state == "dropped"
    assert arrived() == []


def test_a_savepoint_of_a_transaction_that_commits_later_counts_too(any_broker: str) -> None:
    """Given two open transactions, when the second's savepoint is undone, its commit sends nothing."""
    with transaction.atomic(using="other"):
        with transaction.atomic(), pytest.raises(Undo), transaction.atomic(using="other"):
            departure = send("a")
            raise Undo
        assert departure.state == "dropped"
    assert departure.state == "dropped"
    assert arrived() == []


def test_a_later_transaction_on_the_same_alias_has_no_say(memory_broker: None) -> None:
    with transaction.atomic(using="other"):
        with transaction.atomic():
            departure = send("a")
        with pytest.raises(Undo), transaction.atomic():
            raise Undo
    assert departure.state == "sent"


def test_using_names_the_transactions_that_count(any_broker: str) -> None:
    with pytest.raises(Undo), transaction.atomic(using="other"):
        with transaction.atomic():
            departure = send("a", using="default")
        if any_broker == "memory://":
            assert departure.state == "sent"
        raise Undo
    with pytest.raises(ImproperlyConfigured, match=r"using='defualt'.*Did you mean 'default'"):
        send("b", using="defualt")


def test_many_tasks_of_one_transaction_leave_in_one_go(bulk: list[int]) -> None:
    with transaction.atomic():
        for number in range(50):
            send(str(number))
        with transaction.atomic():
            send("in a savepoint")
    assert bulk == [50, 1]
    assert len(arrived()) == 51


def test_many_tasks_register_one_callback(any_broker: str) -> None:
    with transaction.atomic():
        for number in range(50):
            send(str(number))
        assert len(connections["default"].run_on_commit) <= 2
    assert len(arrived()) == 50


def test_callbacks_of_others_are_not_overtaken(memory_broker: None) -> None:
    seen: list[list[str]] = []
    with transaction.atomic():
        send("a")
        transaction.on_commit(lambda: seen.append(arrived()))
        send("b")
    assert seen == [["a"]]
    assert arrived() == ["b"]


def test_many_calls_are_one_departure(any_broker: str) -> None:
    with transaction.atomic():
        departure = publisher.send_many(Call(PLAN, str(number)) for number in range(3))
        assert departure.state == "waiting"
    assert departure.state == "sent"
    assert arrived() == ["0", "1", "2"]


def test_sending_nothing_is_fine(any_broker: str) -> None:
    assert publisher.send_many([]).state == "sent"


@pytest.mark.parametrize("by", ["option", "setting"])
def test_on_commit_off_sends_now(memory_broker: None, by: str) -> None:
    with pytest.raises(Undo), settings.override(TASK_ON_COMMIT=by == "option"), transaction.atomic():
        departure = send("a", on_commit=False if by == "option" else None)
        assert departure.state == "sent"
        raise Undo
    assert arrived() == ["a"]


def test_on_commit_off_inside_a_transaction_of_the_broker_is_refused() -> None:
    with transaction.atomic(), pytest.raises(OperationalError, match="a transaction is open on 'default'"):
        send("a", on_commit=False)
    with transaction.atomic(using="other"):
        assert send("b", on_commit=False).state == "sent"
    assert send("c", on_commit=False).state == "sent"
    assert arrived() == ["b", "c"]


def test_on_the_database_broker_the_row_is_part_of_the_transaction() -> None:
    with transaction.atomic():
        send("a")
        assert Message.objects.filter(task_id="a").exists()


def test_with_autocommit_off_the_row_is_part_of_that_transaction() -> None:
    transaction.set_autocommit(False)
    try:
        assert send("a").state == "sent"
        transaction.rollback()
        assert send("b").state == "sent"
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert arrived() == ["b"]


def test_with_autocommit_off_other_brokers_send_now(memory_broker: None) -> None:
    transaction.set_autocommit(False)
    try:
        send("a")
        transaction.rollback()
    finally:
        transaction.set_autocommit(True)
    assert arrived() == ["a"]


def test_an_error_at_commit_reaches_whoever_commits(
    memory_broker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(outgoing: object) -> None:
        raise OperationalError("the broker is away")

    monkeypatch.setattr(brokers.broker(), "send_many", refuse)
    with pytest.raises(OperationalError, match="the broker is away"), transaction.atomic():
        departure = send("a")
    assert departure.state == "dropped"
    assert "could not be sent when the transaction was committed: the broker is away" in departure.why()


def test_arguments_are_those_of_the_moment_of_the_call(memory_broker: None) -> None:
    numbers = [1]
    with transaction.atomic():
        publisher.send(Call(PLAN, "a", args=[numbers]))
        numbers.append(2)
    source = brokers.broker().source(["default"], "reader")
    assert source.receive(1)[0].message.body.startswith(b"[[[1]], {}")


def test_arguments_that_cannot_be_written_are_refused_at_the_call(any_broker: str) -> None:
    with transaction.atomic(), pytest.raises(EncodeError):
        publisher.send(Call(PLAN, "a", args=[object()]))
    assert arrived() == []


def test_a_broken_transaction_is_reported_as_django_does() -> None:
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(TransactionManagementError):
            send("a")


def test_in_an_event_loop_a_database_broker_asks_for_the_async_twin() -> None:
    async def view() -> None:
        send("a")

    with pytest.raises(SynchronousOnlyOperation, match=r"await task\.adelay"):
        asyncio.run(view())


def test_in_an_event_loop_a_broker_without_a_database_sends(memory_broker: None) -> None:
    async def view() -> str:
        return send("a").state

    assert asyncio.run(view()) == "sent"
    assert arrived() == ["a"]


def test_from_async_code_it_goes_by_the_thread_of_the_orm() -> None:
    async def view() -> str:
        return (await sync_to_async(send)("a")).state

    assert asyncio.run(view()) == "sent"
    connections["default"].close()
    assert arrived() == ["a"]


# Signals


@pytest.fixture
def connected() -> Iterator[Callable[..., None]]:
    """Return a way to connect a receiver for the duration of the test."""
    done = []

    def connect(signal: object, receiver: Callable[..., None]) -> None:
        signal.connect(receiver, weak=False)  # type: ignore[attr-defined]
        done.append((signal, receiver))

    yield connect
    for signal, receiver in done:
        signal.disconnect(receiver)  # type: ignore[attr-defined]


def test_receivers_may_change_a_message_before_it_is_sealed(
    memory_broker: None, connected: Callable[..., None]
) -> None:
    def mark(
        sender: str, headers: dict[str, object], body: tuple[object, dict[str, int], object], **_: object
    ) -> None:
        assert sender == "tests.add"
        headers["tenant"] = "acme"
        body[1]["extra"] = 1

    connected(before_task_publish, mark)
    publisher.send(Call(PLAN, "a", kwargs={"x": 2}))
    (delivery,) = brokers.broker().source(["default"], "reader").receive(1)
    assert delivery.message.headers["tenant"] == "acme"
    assert delivery.message.body.startswith(b'[[], {"x": 2, "extra": 1}')


def test_publishing_is_announced_before_at_the_call_and_after_at_the_commit(
    any_broker: str, connected: Callable[..., None]
) -> None:
    seen: list[str] = []
    connected(before_task_publish, lambda headers, **_: seen.append(f"before {headers['id']}"))
    connected(
        after_task_publish,
        lambda sender, headers, body, exchange, routing_key, **_: seen.append(
            f"after {sender} {headers['id']} {body[0]} {exchange!r} {routing_key}"
        ),
    )
    with transaction.atomic():
        publisher.send(Call(PLAN, "a", args=[7]))
        assert seen == ["before a"]
    assert seen == ["before a", "after tests.add a [7] '' default"]
    with pytest.raises(Undo), transaction.atomic():
        send("b")
        raise Undo
    assert seen[2:] == ["before b"]


# Inside Django's TestCase


class InTestCase(TestCase):
    """What users' own tests see."""

    databases = {"default", "other"}

    def test_tasks_are_sent_through_the_capture_of_callbacks(self) -> None:
        with settings.override(BROKER_URL="memory://"):
            with self.captureOnCommitCallbacks(execute=True):
                departure = send("a")
                assert departure.state == "waiting"
            assert departure.state == "sent"
            assert arrived() == ["a"]

    def test_blocks_of_the_code_under_test_count_and_those_of_the_test_do_not(self) -> None:
        with settings.override(BROKER_URL="memory://"):
            captured = self.captureOnCommitCallbacks(using="other", execute=True)
            with captured, transaction.atomic(using="other"):
                departure = send("a")
            assert departure.state == "sent"
            with pytest.raises(Undo), transaction.atomic(using="other"):
                departure = send("b")
                raise Undo
            assert departure.state == "dropped"

    def test_a_capture_takes_what_was_sent_in_it_only(self) -> None:
        with settings.override(BROKER_URL="memory://"):
            send("before")
            with self.captureOnCommitCallbacks(execute=True) as callbacks:
                send("inside")
            assert len(callbacks) == 1
            assert arrived() == ["inside"]

    def test_on_the_database_broker_the_row_is_there_at_once(self) -> None:
        send("a")
        assert Message.objects.filter(task_id="a").exists()
        assert send("b", on_commit=False).state == "sent"
