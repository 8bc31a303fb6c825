"""Tests of `wait_until`, on which every other waiting test leans.

Conditions that turn true, that never do, and that are slow come in; values or readable failures leave.
"""

from __future__ import annotations

import pytest

from tests.support.waiting import wait_until


def test_it_returns_the_first_truthy_value() -> None:
    answers = iter([None, "", "there"])
    assert wait_until(lambda: next(answers), within=1, because="for an answer") == "there"


def test_it_names_what_was_awaited_and_what_was_seen_last() -> None:
    with pytest.raises(AssertionError, match=r"for rain: not within 0.01 s; last seen: \[\]"):
        wait_until(list, within=0.01, because="for rain")


def test_it_looks_once_even_when_there_is_no_time() -> None:
    assert wait_until(lambda: "at once", within=0, because="for nothing") == "at once"
