"""What failures in workflows bring about: errors of chords, error callbacks, and nobody who waits for ever.

Each runs with a store that counts chords, with one that then reads documents, and with one that is asked.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from djqueue import (
    AsyncResult,
    Task,
    app,
    chain,
    chord,
    group,
    result_from_tuple,
    shared_task,
    signals,
    states,
)
from djqueue.conf import settings
from djqueue.core.moments import epoch
from djqueue.core.protocol import read_headers
from djqueue.exceptions import (
    ChordError,
    Ignore,
    ImproperlyConfigured,
    Reject,
    TaskRevokedError,
    WorkerLostError,
)
from djqueue.messaging import publisher
from djqueue.result import backends
from djqueue.tasks.abandonment import abandon
from djqueue.worker.settlement import Settler
from tests.support.in_process import Inbox

pytestmark = pytest.mark.usefixtures("how_chords_complete")


class Expected(Exception):
    """The tasks below fail with this one."""


@pytest.fixture
def counted(how_chords_complete: str) -> None:
    if how_chords_complete == "asked":
        pytest.skip("only where the store counts")


@pytest.fixture
def fail() -> Task[..., Any]:
    @shared_task(name="failing.fail")
    def fail(*args: Any) -> None:
        raise Expected("as asked")

    return fail


@pytest.fixture
def told() -> list[Any]:
    return []


@pytest.fixture
def tell(told: list[Any]) -> Task[..., Any]:
    @shared_task(name="failing.tell")
    def tell(request: Any, exc: BaseException, traceback: str | None) -> None:
        told.append((request.id, type(exc).__name__))

    return tell


def assert_body_failed(result: Any, text: str = r"Dependency .* raised Expected\('as asked'\)") -> None:
    with pytest.raises(ChordError, match=text):
        AsyncResult(result.id).get(timeout=1)


def test_a_part_that_fails_fails_the_body_and_tells_its_callbacks(
    add: Task[..., Any],
    fail: Task[..., Any],
    total: Task[..., Any],
    tell: Task[..., Any],
    told: list[Any],
    inbox: Inbox,
) -> None:
    heard = []
    one = shared_task(name="failing.one")(lambda task_id: heard.append(task_id))
    body = total.s().on_error(tell.s()).on_error(one.s())
    result = chord([add.s(1, 1), fail.s(), add.s(2, 2)], body).delay()
    inbox.run_all()
    assert_body_failed(result)
    assert told == [(result.id, "ChordError")]
    assert heard == [result.id]
    with pytest.raises(Expected):
        result.get(timeout=1)
    assert [one.state for one in result.parent] == [states.SUCCESS, states.FAILURE, states.SUCCESS]


def test_what_comes_after_the_body_ends_as_well(
    add: Task[..., Any], fail: Task[..., Any], total: Task[..., Any], inbox: Inbox
) -> None:
    result = (group(add.s(1, 1), fail.s()) | total.s() | add.s(1) | group(add.s(1), add.s(2))).delay()
    inbox.run_all()
    for member in result:
        assert_body_failed(member)
    assert_body_failed(result.parent)


def test_every_task_of_a_group_that_is_the_body_fails(
    fail: Task[..., Any], add: Task[..., Any], tell: Task[..., Any], told: list[Any], inbox: Inbox
) -> None:
    body = group(add.s(1), add.s(2).on_error(tell.s()))
    result = chord([fail.s()], body).delay()
    inbox.run_all()
    for member in result:
        assert_body_failed(member)
    assert told == [(result[1].id, "ChordError")]


def test_a_chord_in_a_header_passes_its_failure_on(
    add: Task[..., Any], fail: Task[..., Any], total: Task[..., Any], inbox: Inbox
) -> None:
    inner = chord([add.s(1, 1), fail.s()], total.s())
    result = chord([inner, add.s(2, 2)], total.s()).delay()
    inbox.run_all()
    assert_body_failed(result, r"Dependency .* raised ChordError")


def test_a_chain_in_a_header_that_ends_early_counts(
    add: Task[..., Any], fail: Task[..., Any], total: Task[..., Any], inbox: Inbox
) -> None:
    result = chord([fail.s() | add.s(1) | add.s(2), add.s(1, 1)], total.s()).delay()
    inbox.run_all()
    assert_body_failed(result)
    deep = chord([fail.s() | group(add.s(1), add.s(2)) | total.s() | group(add.s(1), add.s(2))], total.s())
    result = deep.delay()
    inbox.run_all()
    assert_body_failed(result)


@pytest.mark.parametrize("raised", [Ignore("no"), Reject("no")], ids=lambda raised: type(raised).__name__)
def test_a_part_without_a_result_fails_the_body_and_does_not_let_it_wait(
    raised: Exception, counted: None, add: Task[..., Any], total: Task[..., Any], inbox: Inbox
) -> None:
    @shared_task(name="failing.raises")
    def raises() -> None:
        raise raised

    result = chord([raises.s(), add.s(1, 1)], total.s()).delay()
    inbox.run_all()
    assert_body_failed(result, f"raised {type(raised).__name__}")


@pytest.mark.parametrize(
    ("error", "state"),
    [(WorkerLostError("gone"), states.FAILURE), (TaskRevokedError("revoked"), states.REVOKED)],
    ids=["lost", "revoked"],
)
@pytest.mark.parametrize("place", ["alone", "in a chain"])
def test_a_part_that_a_worker_gives_up_fails_the_body(
    error: Exception,
    state: str,
    place: str,
    counted: None,
    add: Task[..., Any],
    total: Task[..., Any],
    inbox: Inbox,
) -> None:
    given_up = add.s(1, 1) if place == "alone" else add.s(1, 1) | add.s(1) | add.s(2)
    result = chord([given_up, add.s(2, 2)], total.s()).delay()
    first, second = inbox.receive()
    request = read_headers(first.message, first.delivery_info())
    outcome = abandon(request, first.message, error, state=state)
    settler = Settler(inbox._source, backends.backend(), publisher.publish, lambda lost: None)
    settler.add(first.ack(), outcome)
    assert settler.settle(0.0)
    inbox.run(second)
    inbox.run_all()
    assert_body_failed(result, f"raised {type(error).__name__}")


def test_results_that_the_body_cannot_be_sent_fail_it(
    counted: None, add: Task[..., Any], total: Task[..., Any], inbox: Inbox
) -> None:
    result = chord([add.s(1, 1)], total.s().set(priority="highest")).delay()
    inbox.run_all()
    assert_body_failed(result, "Callback error: ValueError")


def test_the_unlocking_task_gives_up_when_it_was_told_to(
    how_chords_complete: str, add: Task[..., Any], total: Task[..., Any], inbox: Inbox
) -> None:
    if how_chords_complete != "asked":
        pytest.skip("only where the store has to be asked")
    result = chord([add.s(1, 1).set(queue="nobody")], total.s()).apply_async(interval=0, max_retries=2)
    inbox.run_all()
    assert_body_failed(result, "chord_unlock gave up: MaxRetriesExceededError")


@pytest.mark.parametrize(("interval", "seconds"), [(None, 30.0), (7.0, 7.0)])
def test_the_unlocking_task_asks_as_often_as_it_is_told_to(
    how_chords_complete: str,
    add: Task[..., Any],
    total: Task[..., Any],
    inbox: Inbox,
    interval: float | None,
    seconds: float,
) -> None:
    if how_chords_complete != "asked":
        pytest.skip("only where the store has to be asked")
    due: list[Any] = []

    def note(headers: dict[str, Any], **_: Any) -> None:
        if headers["task"] == "celery.chord_unlock":
            due.append(epoch(headers["eta"]))

    signals.before_task_publish.connect(note)
    try:
        with settings.override(RESULT_CHORD_RETRY_INTERVAL=30.0):
            begun = time.time()
            chord([add.s(1, 1).set(queue="nobody")], total.s()).apply_async(interval=interval)
            told = {"result": [[["nobody", None], None]], "interval": interval}
            app.send_task("celery.chord_unlock", ("g", dict(total.s())), told)
            (again,) = inbox.run().follow_ups
            ended = time.time()
    finally:
        signals.before_task_publish.disconnect(note)
    assert again.due is not None
    for moment in (due[0], again.due):
        assert begun + seconds <= moment <= ended + seconds


def test_error_callbacks_of_a_chord_are_the_bodys_and_the_headers_if_wanted(
    add: Task[..., Any],
    fail: Task[..., Any],
    total: Task[..., Any],
    tell: Task[..., Any],
    told: list[Any],
    inbox: Inbox,
) -> None:
    for wanted, names in ((False, ["ChordError"]), (True, ["Expected", "ChordError"])):
        told.clear()
        with settings.override(TASK_ALLOW_ERROR_CB_ON_CHORD_HEADER=wanted):
            flow = chord([fail.s(), add.s(1, 1)], total.s())
            flow.link_error(tell.s())
        flow.delay()
        inbox.run_all()
        assert [name for _, name in told] == names


def test_an_error_callback_of_a_chain_hears_of_whatever_fails(
    add: Task[..., Any],
    fail: Task[..., Any],
    total: Task[..., Any],
    tell: Task[..., Any],
    told: list[Any],
    inbox: Inbox,
) -> None:
    flow = chain(add.s(1, 1), group(add.s(1), fail.s()), total.s())
    result = flow.apply_async(link_error=tell.s())
    inbox.run_all()
    assert told == [(result.id, "ChordError")]


def test_an_eager_chord_raises_what_its_header_raised(
    add: Task[..., Any], fail: Task[..., Any], total: Task[..., Any]
) -> None:
    with pytest.raises(Expected):
        chord([fail.s()], total.s()).apply()


# Replacing, and adding


def test_a_task_may_be_replaced_by_anything(add: Task[..., Any], total: Task[..., Any], inbox: Inbox) -> None:
    replacements: dict[str, Any] = {
        "task": (add.s(1, 1), 2),
        "chain": (add.s(1, 1) | add.s(2), 4),
        "group": (group(add.s(1, 1), add.s(2, 2)), [2, 4]),
        "chord": (chord([add.s(1, 1), add.s(2, 2)], total.s()), 6),
        "chain with a group": (add.s(1, 1) | group(add.s(1), add.s(2)), [3, 4]),
    }

    @shared_task(name="failing.become", bind=True)
    def become(self: Any, name: str) -> Any:
        return self.replace(replacements[name][0])

    same = shared_task(name="failing.same")(lambda x: x)
    for name, (_, expected) in replacements.items():
        alone, followed = become.delay(name), (become.s(name) | same.s()).delay()
        grouped = group(become.s(name), add.s(5, 5)).delay()
        counted = chord([become.s(name), add.s(5, 5)], same.s()).delay()
        inbox.run_all()
        assert alone.get(timeout=1) == expected, name
        assert followed.get(timeout=1) == expected, name
        assert grouped.get(timeout=1) == [expected, 10], name
        assert counted.get(timeout=1) == [expected, 10], name
        assert become.apply((name,)).get() == expected, name
        assert (become.s(name) | same.s()).apply().get() == expected, name


def test_what_replaces_a_task_takes_over_its_links_and_its_id(
    add: Task[..., Any], fail: Task[..., Any], tell: Task[..., Any], told: list[Any], inbox: Inbox
) -> None:
    seen = []
    note = shared_task(name="failing.note")(lambda value: seen.append(value))
    nesting = []

    @shared_task(name="failing.twice", bind=True)
    def twice(self: Any, left: int) -> Any:
        nesting.append((self.request.id, self.request.replaced_task_nesting))
        return self.replace(self.s(left - 1) if left else add.s(1, 1))

    result = twice.apply_async((2,), link=note.s())
    inbox.run_all()
    assert (result.get(timeout=1), seen) == (2, [2])
    assert nesting == [(result.id, 0), (result.id, 1), (result.id, 2)]
    by_failure = shared_task(name="failing.by_failure", bind=True)(lambda self: self.replace(fail.s()))
    result = by_failure.apply_async(link_error=tell.s())
    inbox.run_all()
    assert told == [(result.id, "Expected")]


def test_not_everything_may_replace_a_task(add: Task[..., Any], inbox: Inbox) -> None:
    wrong: list[Any] = [chain(), add.s(1, 1).set(chord=add.s())]

    @shared_task(name="failing.wrong", bind=True)
    def become(self: Any, position: int) -> Any:
        return self.replace(wrong[position])

    for position in range(2):
        with pytest.raises(ImproperlyConfigured):
            become.apply((position,)).get()
    with pytest.raises(RuntimeError, match="called as a function"):
        become(0)


def test_a_part_may_add_parts_to_its_chord(
    how_chords_complete: str, add: Task[..., Any], total: Task[..., Any], inbox: Inbox
) -> None:
    if how_chords_complete != "counted":
        pytest.skip("only where the store keeps the parts")

    @shared_task(name="failing.more", bind=True)
    def more(self: Any, left: int) -> int:
        if left:
            self.add_to_chord(more.s(left - 1))
            self.add_to_chord(add.s(10, 0))
        return left

    result = chord([more.s(2), add.s(1, 1)], total.s()).delay()
    inbox.run_all()
    assert result.get(timeout=1) == 2 + 1 + 0 + 10 + 10 + 2
    with pytest.raises(ValueError, match="in no chord"):
        more.apply((1,)).get()


def test_parts_can_only_be_added_where_they_are_kept(
    how_chords_complete: str, total: Task[..., Any], inbox: Inbox
) -> None:
    if how_chords_complete == "counted":
        pytest.skip("only where the store does not keep the parts")
    more = shared_task(name="failing.more", bind=True)(lambda self: self.add_to_chord(total.s()))
    result = chord([more.s()], total.s()).delay()
    inbox.run_all()
    assert_body_failed(result, "raised NotImplementedError")


def test_a_part_that_is_retried_counts_once(add: Task[..., Any], total: Task[..., Any], inbox: Inbox) -> None:
    @shared_task(name="failing.again", bind=True)
    def again(self: Any) -> int:
        if self.request.retries < 2:
            raise self.retry(countdown=0)
        return int(self.request.retries)

    result = chord([again.s(), add.s(1, 1)], total.s()).delay()
    inbox.run_all()
    assert result.get(timeout=1) == 4


# As others ask for it


def test_a_chord_that_celery_asks_about_comes_to_its_end(
    add: Task[..., Any], total: Task[..., Any], inbox: Inbox
) -> None:
    members = [add.delay(1, 1), add.delay(2, 2)]
    body = dict(total.s().set(task_id="body", chord_size=2, interval=1, producer_pool="x"))
    told = {"result": [one.as_tuple() for one in members], "interval": None, "max_retries": None}
    app.send_task("celery.chord_unlock", ("g", body), {**told, "_chord_unlock_exchange_type": "direct"})
    inbox.run_all()
    assert AsyncResult("body").get(timeout=1) == 6


def test_old_clients_ask_for_groups_and_chords_as_tasks(
    add: Task[..., Any], total: Task[..., Any], inbox: Inbox
) -> None:
    members = [dict(add.s(1)), dict(add.s(2))]
    sent = [
        app.send_task("celery.group", (members, [["g", None], []], "g", [10])),
        app.send_task("celery.chord", (members, dict(total.s()), [10])),
        app.send_task("celery.chunks", (dict(add.s()), [[1, 1], [2, 2]], 1)),
    ]
    inbox.run_all()
    found = [result_from_tuple(one.get(timeout=1)) for one in sent]
    assert [one.get(timeout=1) for one in found] == [[11, 12], 23, [[2], [4]]]
    refused = app.send_task("celery.chain")
    inbox.run_all()
    with pytest.raises(NotImplementedError, match="not a task"):
        refused.get(timeout=1)
