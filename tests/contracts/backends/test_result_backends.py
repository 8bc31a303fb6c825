"""What every result store must do, asked of each of them.

Documents go in and come back; the rules about which write may replace which are checked case by case, by
random histories. A new store is one more line in `stores.py`.
"""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from djqueue import states
from djqueue.conf import settings as djqueue_settings
from djqueue.core.names import new_id
from djqueue.core.requests import attempt_number
from djqueue.result.contract import ResultBackend
from djqueue.result.documents import Document
from tests.contracts.backends.stores import TAKE_LITTLE, in_thread
from tests.support.results import document
from tests.support.waiting import wait_until

NOT_TERMINAL = [states.PENDING, states.RECEIVED, states.STARTED, states.RETRY, "PROGRESS"]
TERMINAL = [states.SUCCESS, states.FAILURE, states.REVOKED]


def stored(store: ResultBackend, *documents: Document) -> Document:
    """Store the documents one after the other and return what is kept of the last one's task."""
    for one in documents:
        store.store_many([one])
    found = store.fetch(documents[-1].task_id)
    assert found is not None
    return found


# What goes in comes out


def test_a_document_comes_back_as_it_was(store: ResultBackend) -> None:
    full = Document(
        task_id="a",
        status=states.FAILURE,
        result='{"exc_type": "KeyError", "exc_message": ["k"], "exc_module": "builtins"}',
        traceback="Traceback (most recent call last): …\nKeyError: 'k'\n",
        children=[[["b", None], None]],
        date_done=1_800_000_000.123456,
        date_started=1_799_999_999.5,
        attempt=attempt_number(2, 1),
        retries=2,
        name="shop.tasks.add",
        args="(1, 'two')",
        kwargs="{'three': 3}",
        worker="celery@host",
        queue="default",
        group_id="g",
        root_id="r",
        parent_id="p",
        periodic_task_name="every morning",
    )
    assert stored(store, full) == full


def test_unknown_tasks_are_missing(store: ResultBackend) -> None:
    store.store_many([document("known")])
    assert store.fetch("unknown") is None
    assert list(store.fetch_many(["unknown", "known"])) == ["known"]
    assert store.fetch_many([]) == {}


def test_storing_nothing_is_fine(store: ResultBackend) -> None:
    store.store_many([])


@pytest.mark.timeout(120)  # clients of object stores take milliseconds for each request
def test_a_thousand_documents_are_stored_at_once(store: ResultBackend) -> None:
    store.store_many([document(f"task-{number}", value=number) for number in range(1000)])
    found = store.fetch_many([f"task-{number}" for number in range(1000)])
    assert [found[f"task-{number}"].value() for number in range(1000)] == list(range(1000))


def test_what_has_been_sent_is_all_there_every_time(store: ResultBackend, store_name: str) -> None:
    if not store_name.startswith("rpc"):
        pytest.skip("nothing is on its way elsewhere")
    for _ in range(20):
        store.store_many([document(f"task-{number}", value=number) for number in range(1000)])
        assert len(store.fetch_many([f"task-{number}" for number in range(1000)])) == 1000
        store.forget_many([f"task-{number}" for number in range(1000)])


def test_a_result_of_five_megabytes_is_kept(store: ResultBackend, store_name: str) -> None:
    large = document(value="æ" * 1_000_000)
    assert len(large.result) > 5_000_000
    if store_name in TAKE_LITTLE:
        kept = stored(store, large)
        assert kept.status == states.FAILURE
        assert "too large" in str(kept.value())
        return
    assert stored(store, large).result == large.result


def test_bytes_come_back_as_bytes(store: ResultBackend) -> None:
    packed = document(
        result=bytes(range(256)), content_type="application/x-msgpack", content_encoding="binary"
    )
    found = stored(store, packed)
    assert (found.result, found.content_type, found.content_encoding) == (
        bytes(range(256)),
        "application/x-msgpack",
        "binary",
    )


STRANGE = [
    "",
    "æøå 字 🎈",
    "nul\0nul",
    "lone \ud800 surrogate",
    "\x1b[31m\r\n\u2028\u202e",
    "'; DROP TABLE x; --",
]


@pytest.mark.parametrize("text", STRANGE, ids=ascii)
def test_a_result_of_any_text_comes_back_unchanged(store: ResultBackend, text: str) -> None:
    strange = document(result=text, content_type="text/plain")
    assert stored(store, strange).result == text


@pytest.mark.parametrize("text", STRANGE[1:], ids=ascii)
def test_any_text_is_an_id(store: ResultBackend, text: str) -> None:
    assert stored(store, document(text, value=1)).task_id == text
    store.forget_many([text])
    assert store.fetch(text) is None


def test_ids_of_any_length_are_told_apart(store: ResultBackend) -> None:
    long = ["x" * 300 + end for end in "ab"]
    store.store_many([document(one, value=one) for one in long])
    assert {one: found.value() for one, found in store.fetch_many(long).items()} == {one: one for one in long}


@pytest.mark.parametrize("text", STRANGE, ids=ascii)
def test_text_for_people_never_stops_a_document(store: ResultBackend, text: str) -> None:
    long = text * 500
    shown = document(traceback=text, args=text, kwargs=text)
    shown.name = shown.worker = shown.queue = shown.periodic_task_name = long
    kept = stored(store, shown)
    assert kept.status == states.SUCCESS
    assert (kept.args, kept.kwargs) == (text, text)


@pytest.mark.parametrize("number", [2**40, 2**100])
def test_numbers_from_a_forged_message_never_stop_a_document(store: ResultBackend, number: int) -> None:
    forged = document(retries=number, attempt=number << 16, date_done=float("nan"), date_started=1e300)
    assert stored(store, forged).status == states.SUCCESS


# Which write may replace which


@pytest.mark.parametrize("after", ["PROGRESS", *TERMINAL])
def test_a_task_that_runs_changes_its_state(store: ResultBackend, after: str) -> None:
    for before in NOT_TERMINAL:
        assert stored(store, document(before, before), document(before, after)).status == after


@pytest.mark.parametrize("end", TERMINAL)
def test_an_end_is_final_for_its_attempt(store: ResultBackend, end: str) -> None:
    for late in [*NOT_TERMINAL, *TERMINAL]:
        kept = stored(store, document(late, end, value="first"), document(late, late, value="late"))
        assert (kept.status, kept.result) == (end, '"first"')


@pytest.mark.parametrize("newer", [{"retries": 1}, {"starts": 1}], ids=["retry", "redelivery"])
def test_an_older_attempt_is_ignored(store: ResultBackend, newer: dict[str, int]) -> None:
    for late in [*NOT_TERMINAL, *TERMINAL]:
        kept = stored(store, document(late, states.STARTED, **newer), document(late, late))
        assert (kept.status, kept.attempt > 0) == (states.STARTED, True)


@pytest.mark.parametrize("end", [states.FAILURE, states.REVOKED])
@pytest.mark.parametrize("newer", [{"retries": 1}, {"starts": 1}], ids=["retry", "redelivery"])
def test_a_newer_attempt_opens_the_task_again(store: ResultBackend, end: str, newer: dict[str, int]) -> None:
    assert stored(store, document("a", end), document("a", states.STARTED, **newer)).status == states.STARTED


@pytest.mark.parametrize("late", [states.STARTED, *TERMINAL])
def test_a_success_outlives_redeliveries(store: ResultBackend, late: str) -> None:
    kept = stored(store, document("a", value="first"), document("a", late, value="again", starts=3))
    assert (kept.status, kept.result) == (states.SUCCESS, '"first"')


def test_a_success_gives_way_to_a_further_retry(store: ResultBackend) -> None:
    kept = stored(store, document("a", starts=4), document("a", states.STARTED, retries=1))
    assert kept.status == states.STARTED


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (document("a", states.STARTED), document("a", states.SUCCESS), states.SUCCESS),
        (document("a", states.SUCCESS), document("a", states.STARTED), states.SUCCESS),
        (document("a", "PROGRESS", value=1), document("a", "PROGRESS2", value=2), "PROGRESS2"),
        (document("a", states.STARTED, retries=1), document("a", states.FAILURE), states.STARTED),
    ],
    ids=["in order", "too late", "the last of equals", "older"],
)
def test_the_rules_hold_within_a_batch(
    store: ResultBackend, first: Document, second: Document, kept: str
) -> None:
    store.store_many([first, document("b"), second])
    found = store.fetch_many(["a", "b"])
    assert (found["a"].status, found["b"].status) == (kept, states.SUCCESS)


histories = st.lists(
    st.lists(
        st.builds(
            document,
            st.sampled_from(["a", "b"]),
            st.sampled_from([*NOT_TERMINAL, *TERMINAL]),
            retries=st.integers(0, 2),
            starts=st.integers(0, 2),
            value=st.integers(0, 1000),
        ),
        max_size=4,
    ),
    max_size=4,
)


def expected_after(history: list[list[Document]]) -> dict[str, Document]:
    """Return what is to be kept, by the words of the contract."""
    kept: dict[str, Document] = {}
    for new in (one for batch in history for one in batch):
        old = kept.get(new.task_id)
        if old is not None:
            if new.attempt < old.attempt:
                continue
            if new.attempt == old.attempt and old.status in TERMINAL:
                continue
            if old.status == states.SUCCESS and new.retries <= old.retries:
                continue
        kept[new.task_id] = new
    return kept


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories)
def test_any_history_leaves_what_the_rules_say(store: ResultBackend, history: list[list[Document]]) -> None:
    store.forget_many(["a", "b"])
    for batch in history:
        store.store_many(batch)
    assert dict(store.fetch_many(["a", "b"])) == expected_after(history)


# Waiting, forgetting, expiring


def test_waiting_ends_when_somebody_stores_the_end(shared_store: ResultBackend) -> None:
    task_id = new_id()  # nobody else on the server waits for it
    shared_store.store_many([document(task_id, states.STARTED)])
    later = threading.Timer(0.05, in_thread, [lambda: shared_store.store_many([document(task_id, value=7)])])
    later.start()
    found = shared_store.wait(task_id, timeout=10)
    later.join()
    assert found is not None
    assert found.value() == 7


def test_waiting_ends_without_a_document_when_time_is_up(store: ResultBackend) -> None:
    store.store_many([document("a", states.STARTED)])
    begun = time.monotonic()
    assert store.wait("a", timeout=0.05) is None
    assert 0.05 <= time.monotonic() - begun < 5


def test_waiting_for_what_has_ended_takes_no_time(store: ResultBackend) -> None:
    store.store_many([document("a", states.REVOKED)])
    found = store.wait("a", timeout=0)
    assert found is not None


def test_what_is_forgotten_is_gone(store: ResultBackend) -> None:
    store.store_many([document("a"), document("b")])
    store.forget_many(["a", "unknown"])
    assert list(store.fetch_many(["a", "b"])) == ["b"]
    # Nothing of the old attempt is left that could refuse a new one.
    assert stored(store, document("a", states.STARTED)).status == states.STARTED


def test_what_has_expired_is_cleaned_up(store: ResultBackend) -> None:
    if store.expires_by_itself:
        pytest.skip("the store needs no cleaning")
    store.store_many([document("done", date_done=time.time()), document("runs", states.STARTED)])
    stored_by = time.time()
    assert store.clean_up() == 0
    with djqueue_settings.override(RESULT_EXPIRES=0.01):
        wait_until(lambda: time.time() > stored_by + 0.02, within=5, because="the results are to expire")
        assert store.clean_up() == 2
    assert store.fetch_many(["done", "runs"]) == {}


@pytest.mark.parametrize("never", [None, 0])
def test_without_an_expiry_everything_is_kept(store: ResultBackend, never: int | None) -> None:
    store.store_many([document("a", date_done=1.0)])
    with djqueue_settings.override(RESULT_EXPIRES=never):
        assert store.clean_up() == 0
    assert store.fetch("a") is not None


def test_a_closed_store_opens_again(store: ResultBackend) -> None:
    store.store_many([document("a")])
    store.close()
    store.close()
    assert store.fetch("a") is not None


def test_the_address_can_be_shown(store: ResultBackend) -> None:
    known = (
        "django-db",
        "redis://",
        "rpc://",
        "cache+",
        "django-cache://",
        "file://",
        "db+",
        "s3://",
        "dynamodb://",
        "azureblockblob://",
        "mongodb://",
        "gs://",
    )
    assert store.as_uri().startswith(known)
