"""Names, rates, retries: small sums without side effects."""

from __future__ import annotations

import os
import re
import socket
import threading
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djqueue.core import names
from djqueue.core.ratelimits import TokenBucket, per_second
from djqueue.core.retrying import backoff, backoff_factor, may_retry

# Names


def test_ids_are_random_uuids_of_version_4() -> None:
    ids = {names.new_id() for _ in range(1000)}
    assert len(ids) == 1000
    for text in ids:
        found = UUID(text)
        assert (str(found), found.version, found.variant) == (text, 4, RFC_4122)


def test_a_sender_signs_with_process_and_host() -> None:
    assert names.origin() == f"gen{os.getpid()}@{socket.gethostname()}"


def test_all_threads_have_one_lasting_address_for_replies() -> None:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(names.reply_address()))
    thread.start()
    thread.join()
    assert found == [names.reply_address()] == [names.reply_address()]
    assert UUID(found[0]).version == 3


def test_a_forked_child_signs_and_answers_under_its_own_name() -> None:
    before = names.origin(), names.reply_address()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, f"{names.origin()} {names.reply_address()}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    origin, oid = os.read(read, 1000).decode().split()
    os.close(read)
    os.close(write)
    assert origin == f"gen{child}@{names.host()}"
    assert (origin, oid) != before
    assert oid != before[1]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("w1@%h", "w1@app1.example.com"),
        ("%n", "app1"),
        ("w.%d", "w.example.com"),
        ("100%%%h", "100%app1.example.com"),
        ("%x%", "%x%"),
    ],
)
def test_patterns_in_names_are_replaced(pattern: str, expected: str) -> None:
    assert names.expand(pattern, "app1.example.com") == expected


def test_node_names_are_completed_as_celery_completes_them() -> None:
    host = socket.gethostname()
    assert names.node_name() == f"celery@{host}"
    assert names.node_name("w1@%h") == f"w1@{host}"
    assert names.node_name("w1") == "celery@w1"
    assert names.node_name("w1@") == f"w1@{host}"
    assert names.node_name("@box") == "celery@box"


# Rates


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        *(("10/s", 10.0), ("60/m", 1.0), ("36/h", 0.01), ("5", 5.0), (5, 5.0), (0.5, 0.5), ("1.5/s", 1.5)),
        *((None, 0.0), (0, 0.0), ("0/s", 0.0), ("", 0.0)),
    ],
)
def test_rates_are_read_as_celery_reads_them(rate: str | float | None, expected: float) -> None:
    assert per_second(rate) == pytest.approx(expected)


@pytest.mark.parametrize("rate", ["fast", "10/d", "/s", "-1/s", "nan", "inf", "1/s/s"])
def test_a_rate_that_cannot_be_read_is_named(rate: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(rate))):
        per_second(rate)


def test_a_bucket_spaces_starts_evenly_without_bursts() -> None:
    bucket = TokenBucket.from_rate("2/s")
    assert bucket is not None
    assert [bucket.take(100.0) for _ in range(3)] == [0.0, 0.5, 1.0]
    assert bucket.wait(100.0) == 1.5
    assert bucket.take(200.0) == 0.0  # what was not used in between is not saved up
    assert bucket.take(200.1) == pytest.approx(0.4)
    assert bucket.wait(300.0) == 0.0


def test_no_rate_is_no_bucket_and_a_bucket_needs_a_rate() -> None:
    assert TokenBucket.from_rate(None) is None
    assert TokenBucket.from_rate("0/m") is None
    with pytest.raises(ValueError, match="above 0"):
        TokenBucket(0)


@given(st.floats(0.01, 1000), st.lists(st.floats(0, 10), max_size=50))
def test_starts_are_never_closer_than_the_rate_allows(rate: float, pauses: list[float]) -> None:
    bucket, now, last = TokenBucket(rate), 0.0, float("-inf")
    for pause in pauses:
        now += pause
        start = now + bucket.take(now)
        assert start - last >= 1 / rate - 1e-6
        last = start


# Retries


def test_the_number_of_retries_is_bounded_unless_it_is_none() -> None:
    assert may_retry(2, 3)
    assert not may_retry(3, 3)
    assert not may_retry(0, 0)
    assert may_retry(10**6, None)


@pytest.mark.parametrize(
    ("option", "factor"), [(False, None), (None, None), (0, None), (True, 1), (5, 5), (0.5, 1), (2.7, 2)]
)
def test_the_backoff_option_is_a_factor(option: float, factor: int | None) -> None:
    assert backoff_factor(option) == factor


def test_the_delay_doubles_up_to_the_maximum() -> None:
    assert [backoff(n, 2, 30, jitter=False) for n in range(6)] == [2, 4, 8, 16, 30, 30]
    assert backoff(10**9, 1, 600, jitter=False) == 600


@given(st.integers(0, 10**6), st.integers(1, 100), st.integers(0, 1000))
def test_jitter_draws_from_nothing_to_the_whole_delay(retries: int, factor: int, maximum: int) -> None:
    whole = backoff(retries, factor, maximum, jitter=False)
    asked: list[int] = []

    def highest(stop: int) -> int:
        asked.append(stop)
        return stop - 1

    assert backoff(retries, factor, maximum, randrange=highest) == whole
    assert asked == [whole + 1]
    assert 0 <= backoff(retries, factor, maximum) <= whole
